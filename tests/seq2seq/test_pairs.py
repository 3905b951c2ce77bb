"""Pseudo-queries, and the pairs that they are learnt in."""

import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import catid2_jax
from catid2_jax.data.corpus import Catalog, Corpus, QuerySet
from catid2_jax.docids.table import DocidTable
from catid2_jax.seq2seq.config import Seq2SeqConfig
from catid2_jax.seq2seq.pairs import pseudo_queries
from catid2_jax.seq2seq.training import Stage2, make_data

TITLES = st.lists(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=8).map(" ".join), min_size=1, max_size=5
)


@given(TITLES, st.integers(1, 30))
def test_pseudo_queries_are_runs_of_words_of_the_title(titles, count):
    texts, rows = pseudo_queries(titles, count, np.random.default_rng(0))
    assert len(texts) == len(rows)
    for row, title in enumerate(titles):
        words = title.split()
        runs = {
            tuple(words[i:j])
            for i in range(len(words))
            for j in range(i + 1, len(words) + 1)
            if j - i <= 5 and j - i < len(words)
        }
        found = [tuple(text.split()) for text, of in zip(texts, rows, strict=True) if of == row]
        assert len(found) == len(set(found)) == min(count, len(runs))
        assert set(found) <= runs


def test_all_runs_are_equally_likely():
    drawn = [pseudo_queries(["a b c"], 1, np.random.default_rng(seed))[0][0] for seed in range(500)]
    counts = {run: drawn.count(run) for run in ("a", "b", "c", "a b", "b c")}
    assert sum(counts.values()) == 500
    assert min(counts.values()) > 70


class Letters:
    """A source whose tokens are the letters of a text."""

    reads_texts = True
    vocabulary = types.SimpleNamespace(encode_codes=lambda codes: codes + 10)

    def of_queries(self, texts, vectors=None, name=""):
        return np.array([[ord(text[0]), len(text)] for text in texts])

    def of_products(self, corpus):
        return self.of_queries(corpus.catalog.titles)


@pytest.mark.parametrize("title_weight", [0.5, 0.0])
def test_pseudo_queries_are_learnt_beside_queries_and_titles(title_weight):
    products = [catid2_jax.Product(f"p{n}", title, "", ()) for n, title in enumerate(["a b", "c"])]
    corpus = Corpus(Catalog.from_products(products))
    table = DocidTable(["p0", "p1"], np.array([[0], [1]]))
    queries = QuerySet([catid2_jax.Query("q", "xyz")], {"q": {"p1": 3}})
    config = Seq2SeqConfig(title_weight=title_weight, pseudo_queries=9, pseudo_query_weight=0.25)
    data = make_data(Stage2(corpus, table, Letters(), None), queries, config)
    pairs = {
        (*data.sources[source].tolist(), int(document), float(weight))
        for source, document, weight in zip(data.source, data.document, data.weight, strict=True)
    }
    titles = {(97, 3, 0, 0.5), (99, 1, 1, 0.5)} if title_weight else set()
    assert pairs == {(120, 3, 1, 1.0), (97, 1, 0, 0.25), (98, 1, 0, 0.25), *titles}
    assert len(data.source) == len(pairs)


class GivenLetters(Letters):
    """The same, of given texts alone."""

    reads_texts = False


def test_without_an_encoder_of_texts_there_are_no_pseudo_queries(capsys):
    corpus = Corpus(Catalog.from_products([catid2_jax.Product("p0", "a b", "", ())]))
    stage = Stage2(corpus, DocidTable(["p0"], np.array([[0]])), GivenLetters(), None)
    queries = QuerySet([catid2_jax.Query("q", "xyz")], {"q": {"p0": 3}})
    data = make_data(stage, queries, Seq2SeqConfig(pseudo_queries=9))
    assert len(data.source) == 2
    assert "no encoder of texts" in capsys.readouterr().out
