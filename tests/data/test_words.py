"""Words as scikit-learn and bm25s have them, and pairs of characters where there are no spaces."""

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer, strip_accents_unicode

from catid2_jax.data.words import without_accents, words

latin = st.text(st.characters(max_codepoint=0x24F) | st.sampled_from("αβγ жия 한국"))


@given(latin)
@example("국")
def test_where_there_are_spaces_they_are_the_librarys(text):
    assert words(text) == re.findall(r"(?u)\b\w\w+\b", text)
    plain = unicodedata.normalize("NFKD", without_accents(text))
    assert plain == strip_accents_unicode(text)
    analyze = TfidfVectorizer(strip_accents="unicode").build_analyzer()
    ours = words(without_accents(text.lower()))
    # Decomposed, as scikit-learn has it, one syllable of Hangul is several letters.
    theirs = [w for w in analyze(text) if len(unicodedata.normalize("NFC", w)) > 1]
    assert [unicodedata.normalize("NFKD", word) for word in ours] == theirs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ハイキング", ["ハイ", "イキ", "キン", "ング"]),
        ("防水靴", ["防水", "水靴", "防", "水", "靴"]),
        ("傘 と x", ["傘", "と"]),
        ("AB充電 12個", ["AB", "充電", "充", "電", "12", "個"]),
        ("ชา", ["ชา"]),
        ("हिन्दी किताब", ["हिन्दी", "किताब"]),
        ("1\ufe0f\u20e3 \U0001f381", []),
    ],
)
def test_scripts_without_spaces_and_marks_that_belong_to_letters(text, expected):
    assert words(text) == expected


def test_voiced_kana_and_vowels_are_no_accents():
    assert without_accents("がハ\u3099") == "がバ"
    assert without_accents("ｶﾞ \uff21 é") == "ガ A e"
    assert without_accents("दी") == "दी"
