"""Products beneath generated prefixes, ranked by dense scores, beside the retriever in Python."""

import numpy as np
import pytest

import catid2_jax
from catid2_jax.data.corpus import Corpus
from catid2_jax.errors import InputError
from catid2_jax.retrievers.clusters import ClusterRetriever
from catid2_jax.retrievers.config import RetrieveConfig
from catid2_jax.serving.client import ServiceError
from tests.serving.running import running
from tests.steps.own import WordEncoder
from tests.steps.test_chain import done  # noqa: F401

LEVEL, PREFIXES = 1, 3
TEXTS = ["tea", "sofa bed", "red camera"]


def expected(workdir, embeddings, **changes):
    """What section 4.7's retriever finds."""
    whole = catid2_jax.load(workdir, beams=PREFIXES, **changes)
    config = RetrieveConfig(beams=PREFIXES, k=PREFIXES)
    corpus = Corpus(whole.catalog, embeddings)
    return whole.catalog, ClusterRetriever(corpus, whole.retriever.model, config, LEVEL)


def answer(client, texts, **options):
    return client.retrieve(texts, k=PREFIXES, method="clusters", **options)


def test_answers_are_those_of_the_retriever(done):  # noqa: F811
    workdir = done[0]
    embeddings = np.load(workdir / "embeddings.npy")
    catalog, retriever = expected(workdir, embeddings)
    vectors = WordEncoder().encode(TEXTS)
    with running(workdir, beams=PREFIXES, beam_rows=6, cluster_level=LEVEL) as service:
        for deny in ([], [catalog.ids[0], catalog.ids[5]]):
            allowed = ~np.isin(catalog.ids, deny)
            found = answer(service.client, TEXTS, filter={"deny_ids": deny})
            wanted = retriever.search(TEXTS, PREFIXES, vectors=vectors, allowed=allowed)
            for one, rows, scores in zip(found, wanted.documents, wanted.scores, strict=True):
                assert [hit.id for hit in one.hits] == [catalog.ids[n] for n in rows if n >= 0]
                np.testing.assert_allclose(
                    [hit.score for hit in one.hits], scores[rows >= 0], atol=2e-4
                )
                assert one.proven is None
        assert service.compilations.serving == 0

        # A product that changes is found by its new text, beneath the prefix that it keeps.
        best = found[0].hits[0]
        product = service.client.product(best.id)
        change = {name: product[name] for name in ("id", "text", "categories", "extra")}
        upsert = [{**change, "title": "zeppelin"}]
        service.admin.call("POST", "/v1/admin/products", {"upsert": upsert, "remove": []})
        fields = [*("zeppelin", product["text"]), " > ".join(product["categories"])]
        (hit,) = (
            hit
            for hit in answer(service.client, [TEXTS[0]], filter={"allow_ids": [best.id]})[0].hits
        )
        new = WordEncoder().encode([" ".join(fields)])[0] @ vectors[0]
        assert hit.score == pytest.approx(new, abs=2e-4)
        assert hit.score != pytest.approx(best.score, abs=2e-3)


def test_refusals(done, tiny_workdir, served):  # noqa: F811
    with pytest.raises(ServiceError) as error:
        answer(served.client, TEXTS)
    assert (error.value.status, error.value.field) == (422, "method")
    for workdir, level, found in (
        (tiny_workdir, 1, "embeddings by 'lsa', which encodes no queries"),
        (done[0], 4, "4"),
    ):
        with pytest.raises(InputError) as error, running(workdir, cluster_level=level):
            pass
        assert error.value.where == "cluster_level"
        assert str(error.value.found) == found
