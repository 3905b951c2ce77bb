import html
import html.parser
import re
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catid2_jax.data.text import (
    clean,
    clean_text,
    count_angle_brackets,
    count_repaired,
    labelled_text,
)

# Pieces that react with each other: entities that make tags, code points that make entities.
markup = [
    "amp;",
    "lt;",
    "&lt;",
    "&#x3c;",
    "#60;",
    "<b>",
    "br",
    "<!--",
    "-->",
    "<script>",
    "</script>",
]
characters = "&;<>/be éス \u037e\u200b\u00ad\u0301\u3000\n\x00\x85\u200d"
pieces = st.lists(
    st.sampled_from(markup) | st.sampled_from(characters) | st.text(max_size=3), max_size=12
).map("".join)


@pytest.mark.parametrize(
    ("published", "plain"),
    [
        ("  a\t b\r\n\u3000c\u00a0 ", "a b c"),
        ("Salt &amp; pepper&nbsp;mill", "Salt & pepper mill"),
        ("AT&amp;amp;T &#39;99 &#x1F600;", "AT&T '99 😀"),
        ("TV &amplifier, R&D, fish &chips", "TV &amplifier, R&D, fish &chips"),
        ("One<br/>two<p class='x'>three</p>four", "One two three four"),
        ("H<sub>2</sub>O is <B>bo</B>ld", "H2O is bold"),
        ("width < 5 cm, > 3 cm, I <3 it", "width < 5 cm, > 3 cm, I <3 it"),
        ("&lt;ul&gt;&lt;li&gt;Soft&lt;/li&gt;&lt;/ul&gt;", "Soft"),
        ("a<!-- x > y -->b<script>var c = 1 < 2;</script>d<STYLE>p {}</style>e", "a b d e"),
        ("<!DOCTYPE html>a", "a"),
        ("cafe\u0301", "café"),
        ("10\u00b2 ½ \uff49\uff30 ㎏", "10² ½ \uff49\uff30 ㎏"),
        ("soft\u00adhyphen\u200b \ufeffx\x00y\x7f", "softhyphen xy"),
        ("Kabel <NEU> 3 m", "Kabel <NEU> 3 m"),
        ("&lt;Limited Edition&gt; mug </neu>", "<Limited Edition> mug </neu>"),
        ("a<b and c>d, x<3 y>2", "a<b and c>d, x<3 y>2"),
        ("<!NEU!> mug <!doctype html>", "<!NEU!> mug"),
        ("<td nowrap>a<hr / ><input disabled>b<p data-v-1 id = 'q'>c</P\n>d", "a b c d"),
        ('<a href="x" title="a > b">link</a> <img alt="7" x 5">', "link"),
        ("<o:p>&nbsp;</o:p>Word", "Word"),
        ("<![CDATA[Blue <b>mug</b>]]>", "Blue mug"),
        ("caf\xe9 It\x92s 5\x80 and\x85 \x99", "café It\u2019s 5€ and… ™"),
        ("It\xe2\x80\x99s \xc3\x89t\xe9 \xc2\x92 no\x81thing", "It\u2019s Été \u2019 nothing"),
        ("スマホ　ケース👩\u200d🚀", "スマホ ケース👩\u200d🚀"),
        ("", ""),
    ],
)
def test_text_is_made_plain(published, plain):
    assert clean_text(published) == plain


@given(pieces)
def test_clean_text_is_clean(text):
    plain = clean_text(text)
    assert clean_text(plain) == plain
    assert unicodedata.is_normalized("NFC", plain)
    assert plain == plain.strip()
    assert "  " not in plain
    assert not any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in plain)


@given(st.text(st.characters(codec="ascii", exclude_characters="&<", min_codepoint=33), max_size=9))
def test_plain_words_stay(word):
    assert clean_text(word) == word.replace("\x7f", "")


@given(st.text(st.sampled_from("ab &<>;é'\""), max_size=12))
def test_escaping_is_undone(text):
    assert clean_text(html.escape(text)) == clean_text(text)


letters = st.text(st.characters(codec="cp1252", categories=["Lu", "Ll", "Sc", "Pf", "Po"]))


@given(letters.filter(lambda text: "&" not in text))
def test_windows_1252_that_was_read_as_latin_1_is_read_again(text):
    """Bytes that happen to be UTF-8, too, are taken for that."""
    lost = text.encode("cp1252").decode("latin-1")
    runs = re.findall("[\x80-\xff]+", lost)
    if all(not_utf_8(run) or not re.search("[\x80-\x9f]", run) for run in runs):
        assert clean_text(lost) == clean_text(text)


def not_utf_8(run):
    try:
        run.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


@given(letters.filter(lambda text: "&" not in text))
def test_utf_8_that_was_read_as_latin_1_is_read_again(text):
    lost = text.encode("utf-8").decode("latin-1")
    if all(re.search("[\x80-\x9f]", run) for run in re.findall("[\x80-\xff]+", lost)):
        assert clean_text(lost) == clean_text(text)


def test_what_is_repaired_and_what_is_kept_in_brackets_is_counted():
    assert count_repaired(pa.array(["It\x92s", None, "It\u2019s é", "a\x80\x80"])) == 2
    kept = pa.array(["a <NEU> <ALT>", "a < b > c", "<3", "</über>", None])
    assert count_angle_brackets(kept) == 2
    assert count_angle_brackets(pa.array([], pa.string())) == 0


class Words(html.parser.HTMLParser):
    """The standard library's reading of the same markup."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.words = []

    def handle_data(self, data):
        self.words += data.split()


def test_markup_as_the_standard_library_reads_it():
    page = (
        "<div class='a'><h1>Mug &mdash; blue</h1><ul><li>Holds 0.3&nbsp;l</li>"
        "<li><i>Dishwasher</i> safe &#10003;</li></ul><img src='x.png' alt='no'/></div>"
    )
    parser = Words()
    parser.feed(page)
    assert clean_text(page) == " ".join(parser.words)


@given(st.lists(st.none() | pieces, max_size=8))
def test_a_column_is_cleaned_value_by_value(texts):
    expected = [None if text is None else clean_text(text) or None for text in texts]
    assert clean(pa.array(texts, pa.string())).to_pylist() == expected


def test_columns_of_other_types():
    assert clean(pa.array([1, None], pa.int64())).to_pylist() == ["1", None]
    assert clean(pa.array([["a ", None, "<b>b</b>"], [], None])).to_pylist() == ["a b", None, None]
    assert clean(pa.chunked_array([["a  b"], ["c"]])).to_pylist() == ["a b", "c"]
    assert clean(pa.array(["a", "a  b"]).dictionary_encode()).to_pylist() == ["a", "a b"]
    # Each is unclean in one way only.
    texts = ["a ", " a", "a  b", "a\tb", "a\x7f", "&lt;", "<b>a", "e\u0301", "\u00a0"]
    assert clean(pa.array(texts)).to_pylist() == ["a", "a", "a b", "a b", "a", "<", "a", "é", None]
    sliced = pa.array(["x", " a ", None, "y"]).slice(1, 2)
    assert clean(sliced).to_pylist() == ["a", None]


def test_fields_are_labelled():
    fields = {
        "description": pa.array(["Blue mug.", None, None]),
        "brand": pa.array(["Acme", "Acme", None]),
    }
    text, cut = labelled_text(fields, 3)
    assert text.to_pylist() == ["description: Blue mug.; brand: Acme", "brand: Acme", ""]
    assert cut == 0
    assert labelled_text({}, 2)[0].to_pylist() == ["", ""]


def test_a_long_field_is_cut_and_counted_and_costs_no_other_its_place():
    fields = {
        "description": pa.array(["ラ" * 10, "short", None]),
        "brand": pa.array(["Acme", "Acme Ltd", "A"]),
    }
    text, cut = labelled_text(fields, 3, max_characters=5)
    assert text.to_pylist() == [
        "description: ラララララ; brand: Acme",
        "description: short; brand: Acme ",
        "brand: A",
    ]
    assert cut == 2
