import collections
import re
import statistics

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from catid2_jax.data.health.text import (
    ODDITIES,
    Cases,
    LanguageSample,
    Lengths,
    Repeats,
    distribution,
    dominant_script,
    normalized,
    printable,
    shown,
)

FRENCH = "Une belle chaise en bois pour le salon, avec des coussins et une garantie de deux ans."
ENGLISH = "A comfortable wooden chair for the living room, with cushions and a two year warranty."


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("T-Shirts", "t shirts"),
        (" Salt &  Pepper\n", "salt pepper"),
        ("LEGO\u00a0City", "lego city"),
        ("STRASSE", "straße"),
        ("\uff21\uff22\uff23", "abc"),
        ("snake_case", "snake case"),
        ("ÉCLAIR", "éclair"),
    ],
)
def test_same_but_for_case_space_and_punctuation(text, other):
    assert normalized(text) == normalized(other) != ""


@pytest.mark.parametrize(
    ("text", "other"),
    [("C++", "C"), ("2 m", "2 cm"), ("की", "का"), ("rose", "rosé"), ("10 °C", "10 C")],
)
def test_not_the_same(text, other):
    assert normalized(text) != normalized(other)


def test_nothing_but_punctuation_has_no_form():
    assert normalized(" -- ?! \t…") == ""


@given(st.text(st.characters(max_codepoint=127)))
def test_normal_form_of_ascii_is_its_lower_case_parts(text):
    parts = re.split(r"[\x00-\x20!-#%-*,-/:;?@\[-\]_{}\x7f]+", text.lower())
    assert normalized(text) == " ".join(filter(None, parts))


@given(st.text())
@example("İ")
def test_normal_form_does_not_depend_on_case_folding_before(text):
    assert normalized(text.casefold()) == normalized(text)


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Blue mug", "Latin"),
        ("Crème brûlée", "Latin"),
        ("Чайник 2 L", "Cyrillic"),
        ("电热水壶 2L", "CJK"),
        ("ケトル", "Kana"),
        ("やかん", "Kana"),
        ("ｹﾄﾙ", "Kana"),
        ("\uff2d\uff35\uff27", "Latin"),
        ("주전자", "Hangul"),
        ("غلاية", "Arabic"),
        ("केतली", "Devanagari"),
        ("βραστήρας", "Greek"),
        ("ab чай", "Cyrillic"),
        ("abc чай", "Latin"),
        ("12 / 34", "none"),
        ("12 \u2013 34", "none"),
    ],
)
def test_script_of_most_letters(text, script):
    assert dominant_script(text) == script


FOUND = {
    "markup": ["<p>Mug", "a<br/>b", "x </b>", "<![CDATA[ window", "<!-- note -->", "<td nowrap>a"],
    "entities": ["salt &amp; pepper", "caf&#233;", "caf&#xE9;", "&nbsp;"],
    "control_characters": ["a\x00b", "a\x1b[31mb", "a\u200bb", "a\u00adb", "\ufeffa"],
    "lost_characters": ["caf\ufffd", "It__s", "ly a?sk", "the world?s best"],
    "foreign_letters": ["Colￜre", "gold c\u0430se"],
    "placeholders": ["#NAME?", " n/a ", "NULL", "nan", "None.", "#REF!", "NA"],
    "addresses": ["see https://example.com/a", "www.example.com"],
    "cut_off": ["and so ...", "and so…", "and so [...] ", "and so [\u2026]"],
}
NOT_FOUND = {
    "markup": ["width < 5 > 3", "I <3 it", "a<1>b", "<>", "<NEU>", "a<b and c>"],
    "entities": ["salt & pepper", "TV &amplifier", "AT&T", "&; x"],
    "control_characters": ["two\nlines\tand a tab\r\n", "plain", "é\u2028"],
    "lost_characters": ["what? yes", "http://a.b/c?d=e", "a_b", "BIG?BAG", "yes?No"],
    "foreign_letters": ["5µm", "Crème", "Ωmega", "чай", "LED灯", "ﬁne", "aəb", "it 电 is"],
    "placeholders": ["#NAME? mug", "nano", "none of it", "", "National", "0"],
    "addresses": ["a://", "www. dot", "https"],
    "cut_off": ["and ... so", "end.", "[...] begin"],
}


@pytest.mark.parametrize(("name", "text"), [(n, t) for n, ts in FOUND.items() for t in ts])
def test_oddity_is_found(name, text):
    assert ODDITIES[name].search(text)


@pytest.mark.parametrize(("name", "text"), [(n, t) for n, ts in NOT_FOUND.items() for t in ts])
def test_no_oddity_where_there_is_none(name, text):
    assert not ODDITIES[name].search(text)


@pytest.mark.parametrize(
    "text", ["Café crème", "It\u2019s “so” good", "Naïve façade", "Größe über 5 €"]
)
def test_mojibake_is_told_from_text_by_its_making(text):
    """UTF-8 read as Windows-1252, which is what people do to it."""
    assert ODDITIES["mojibake"].search(text.encode("utf-8").decode("cp1252", "replace"))
    assert not ODDITIES["mojibake"].search(text)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_plain_text_without_special_characters_is_not_odd(text):
    plain = re.sub(r"[<&?_:.]", "", text) + " mug"
    assert [name for name, oddity in ODDITIES.items() if oddity.search(plain)] == []


@given(st.text())
def test_what_is_shown_is_printable_and_short(text):
    assert shown(text).isprintable()
    assert printable(text).isprintable()
    assert len(shown("x" * 1000, 500)) == 84


def test_an_example_is_shown_around_its_place():
    text = "x" * 200 + "<br>" + "y" * 200
    assert shown(text, 200) == "'…" + "x" * 26 + "<br>" + "y" * 50 + "…'"
    assert shown("short <b>", 6) == "'short <b>'"


def test_cases_keep_the_first_two_examples():
    cases = Cases()
    for number in range(5):
        cases.add("a\x1bb", f"p{number}")
    assert (cases.count, cases.examples) == (5, ["p0: 'a\\x1bb'", "p1: 'a\\x1bb'"])


@given(st.lists(st.integers(0, 100), min_size=2, max_size=60))
def test_distribution_is_that_of_the_statistics_module(values):
    figures = distribution(values)
    # The 99 cuts at 1 % to 99 %, with the data's extremes as 0 % and 100 %.
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    for percent in (5, 25, 75, 95, 99):
        assert figures[f"p{percent}"] == pytest.approx(cuts[percent - 1], abs=0.006)
    assert figures["median"] == statistics.median(values)
    assert figures["mean"] == pytest.approx(statistics.fmean(values), abs=0.006)
    assert (figures["min"], figures["max"]) == (min(values), max(values))


def test_no_value_has_no_distribution():
    assert distribution([]) == {}
    assert Lengths().figures() == {}


def test_lengths_by_hand():
    lengths = Lengths()
    for name, text in zip(
        "abcd", ["two words", "one", "three more words", "exactly sixteen!"], strict=True
    ):
        lengths.add(text, name)
    figures = lengths.figures()
    assert (figures["characters"]["min"], figures["characters"]["max"]) == (3, 16)
    assert figures["characters"]["median"] == 12.5
    assert figures["words"]["mean"] == 2
    assert figures["shortest"] == "b: 'one'"
    assert figures["longest"] == "c: 'three more words'"
    assert figures["of_maximal_length"] == 2


@given(st.lists(st.sampled_from("abcdefgh"), max_size=40))
def test_repeats_are_those_of_a_counter(keys):
    repeats = Repeats()
    for key in keys:
        repeats.add(key, key.upper())
    counts = {key: n for key, n in collections.Counter(keys).items() if n > 1}
    figures = repeats.figures()
    assert figures["count"] == sum(counts.values())
    assert figures["groups"] == len(counts)
    assert figures["largest"] == max(counts.values(), default=0)
    largest = sorted(counts.values(), reverse=True)[:2]
    assert [int(text.split()[1]) for text in figures["examples"]] == largest
    for text in figures["examples"]:
        key, times, _ = text.split()
        assert counts[key.strip("'").lower()] == int(times)


def test_languages():
    sample = LanguageSample()
    for number in range(9):
        sample.add(f"e{number}", ENGLISH)
    sample.add("f", FRENCH)
    figures = sample.figures()
    assert figures["sampled"] == 10
    assert figures["shares"] == {"en": 0.9, "fr": 0.1}
    assert figures["others"]["count"] == 1
    assert figures["others"]["examples"][0].startswith("f, fr: 'Une belle chaise")


def test_what_could_be_any_language_is_unsure_and_no_other_language():
    sample = LanguageSample()
    for number, text in enumerate([ENGLISH, ENGLISH, "XK-200", "Nokia 5"]):
        sample.add(f"p{number}", text)
    figures = sample.figures()
    assert figures["shares"] == {"en": 0.5, "unsure": 0.5}
    assert figures["others"]["count"] == 0


def test_the_sample_does_not_depend_on_the_order():
    records = [(f"p{n}", FRENCH if n % 3 else ENGLISH) for n in range(60)]
    figures = []
    for ordered in (records, records[::-1]):
        sample = LanguageSample(size=20)
        for record, text in ordered:
            sample.add(record, text)
        figures.append(sample.figures())
    assert figures[0] == figures[1]
    assert figures[0]["sampled"] == 20
