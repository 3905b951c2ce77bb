import math

import numpy as np
import pytest

from catid2_jax.data.corpus import Catalog, Corpus
from catid2_jax.errors import InputError
from catid2_jax.progress import console
from catid2_jax.retrievers.bm25 import BM25Retriever
from catid2_jax.retrievers.retriever import make_retriever
from catid2_jax.types import Product

DOCUMENTS = [
    ("a", "red cotton shirt"),
    ("b", "blue cotton shirt shirt"),
    ("c", "steel kettle"),
    ("d", "garden hose for roses"),
]


def lucene_bm25(query, documents, k1=1.5, b=0.75):
    """BM25 as Lucene has it, the form that bm25s defaults to."""
    bags = {key: text.split() for key, text in documents}
    average = sum(map(len, bags.values())) / len(bags)
    scores = {}
    for key, words in bags.items():
        score = 0.0
        for word in query.split():
            n = sum(word in other for other in bags.values())
            tf = words.count(word)
            idf = math.log(1 + (len(bags) - n + 0.5) / (n + 0.5))
            score += idf * tf / (tf + k1 * (1 - b + b * len(words) / average))
        if score > 0:
            scores[key] = score
    return sorted(scores.items(), key=lambda item: -item[1])


@pytest.fixture(scope="module")
def retriever():
    """Over products whose text, the category path included, is that of `DOCUMENTS`."""
    products = []
    for key, text in DOCUMENTS:
        title, *rest, category = text.split()
        products.append(Product(key, title, " ".join(rest), (category,)))
    return make_retriever("bm25", Corpus(Catalog.from_products(products)), {})


def by_id(ranking, query):
    """(id, score) of what a query found."""
    found = zip(ranking.documents[query], ranking.scores[query], strict=True)
    return [(DOCUMENTS[row][0], score) for row, score in found if row >= 0]


def test_scores_are_those_of_the_formula(retriever):
    documents = [(key, text.replace(" for", "")) for key, text in DOCUMENTS]  # a stop word
    queries = ["cotton shirt", "kettle", "unheard of", "roses for the garden"]
    ranking = retriever.search(queries, 10)
    assert ranking.documents.shape == ranking.scores.shape == (4, 4)  # of four products
    assert ranking.proven is None
    for query, text in enumerate(queries):
        expected = lucene_bm25(text, documents)
        found = by_id(ranking, query)
        assert [d for d, _ in found] == [d for d, _ in expected]
        for (_, ours), (_, theirs) in zip(found, expected, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-5)
    assert by_id(ranking, 2) == []
    assert (ranking.documents[2] == -1).all()
    assert (ranking.scores[2] == -np.inf).all()


def test_k_is_the_most(retriever):
    assert len(by_id(retriever.search(["cotton"], 1), 0)) == 1
    assert len(by_id(retriever.search(["cotton"], 2), 0)) == 2


def test_only_what_is_allowed_is_found(retriever):
    queries = ["cotton shirt", "steel shirt"]
    everything = retriever.search(queries, 4)
    assert [d for d, _ in by_id(everything, 0)] == ["b", "a"]
    for_all = retriever.search(queries, 4, allowed=np.array([True, False, True, True]))
    assert [[d for d, _ in by_id(for_all, query)] for query in (0, 1)] == [["a"], ["c", "a"]]
    each = np.array([[False, True, True, True], [True, True, False, True]])
    own = retriever.search(queries, 4, allowed=each)
    assert [[d for d, _ in by_id(own, query)] for query in (0, 1)] == [["b"], ["b", "a"]]
    # A filter changes no score.
    scores = dict(by_id(everything, 1))
    for found in (for_all, own):
        assert all(score == pytest.approx(scores[d]) for d, score in by_id(found, 1))


def test_it_needs_no_embeddings():
    assert BM25Retriever.needs_embeddings is False


def products(*titles):
    return Corpus(
        Catalog.from_products(Product(f"p{n}", t, "", ("x",)) for n, t in enumerate(titles))
    )


def test_a_phrase_inside_of_japanese_text_is_found():
    corpus = products("防水ハイキングブーツ", "折りたたみ傘", "red shirt")
    queries = ["ブーツ", "傘", "shirt"]
    found = make_retriever("bm25", corpus, {}).search(queries, 1)
    assert found.documents[:, 0].tolist() == [0, 1, 2]
    blind = make_retriever("bm25", corpus, {"tokens": "words"}).search(queries, 1)
    assert blind.documents[:, 0].tolist() == [-1, -1, 2]
    with pytest.raises(InputError, match="tokens: found 'letters'"):
        BM25Retriever(corpus, "letters")


def test_texts_without_a_word_are_counted_and_find_nothing():
    with console.capture() as capture:
        nothing = BM25Retriever(products("\U0001f381", "- -"))
        found = nothing.search(["\u200b", "mug"], 3)
    assert (found.documents == -1).all()
    assert (found.scores == -np.inf).all()
    assert capture.get().splitlines() == [
        "2 of 2 products have no word that BM25 could find them by",
        "1 of 2 queries have no word that BM25 could search for",
    ]


def test_ties_go_by_the_catalogues_order():
    corpus = products(*["same words"] * 50)
    found = BM25Retriever(corpus).search(["words"], 5)
    assert found.documents[0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("language", "title", "query", "found"),
    [
        ("spanish", "camión de juguete", "un camion", True),  # without accents, "un" left out
        ("spanish", "de la", "de", False),
        ("english", "camión de juguete", "camion", False),
        ("english", "the end", "the", False),
        ("spanish", "the end", "the", True),
        ("japanese", "防水ブーツ", "ﾌﾞｰﾂ", True),  # half-width kana
        ("english", "防水ブーツ", "ﾌﾞｰﾂ", False),
        ("japanese", "the end", "the", True),
    ],
)
def test_stop_words_and_letters_of_a_language(language, title, query, found):
    corpus = products(title, *["red shirt"] * 3)
    ranking = BM25Retriever(corpus, language=language).search([query], 1)
    assert ranking.documents.tolist() == [[0 if found else -1]]


def test_an_unknown_language():
    with pytest.raises(InputError, match="language: found 'klingon', expected one of english, "):
        BM25Retriever(products("red shirt"), language="klingon")
