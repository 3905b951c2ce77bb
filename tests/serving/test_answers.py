"""What the service answers, beside the retriever in Python and sums written out here."""

import concurrent.futures
import threading
import urllib.parse

import jax
import numpy as np
import pytest

import catid2_jax
from catid2_jax.docids.table import format_docid
from catid2_jax.serving.client import Client, ServiceError
from tests.serving.running import BEAMS, running

TEXTS = ["tea", "sofa bed", "red camera", "dog food", "office chair", "garden hose", "pasta"]


@pytest.fixture(scope="module")
def retriever(tiny_workdir):
    return catid2_jax.load(tiny_workdir, beams=BEAMS)


@pytest.fixture(scope="module")
def words(tiny_workdir):
    return catid2_jax.load(tiny_workdir, "bm25")


def ids(found):
    return [hit.id for hit in found.hits]


def refused(function, *arguments, **options):
    with pytest.raises(ServiceError) as error:
        function(*arguments, **options)
    return error.value


def assert_same(found, expected):
    """An answer has the products, IDs and scores of a `Hits`."""
    assert ids(found) == [hit.product.id for hit in expected]
    assert [hit.docid for hit in found.hits] == [hit.docid for hit in expected]
    assert ["".join(hit.tokens) for hit in found.hits] == [hit.docid for hit in expected]
    np.testing.assert_allclose(
        [hit.score for hit in found.hits], [hit.score for hit in expected], atol=2e-4
    )
    assert found.proven == expected.proven


def test_answers_are_those_of_the_retriever(served, retriever):
    for found, expected in zip(
        served.client.retrieve(TEXTS, k=5), retriever.search(TEXTS, k=5), strict=True
    ):
        assert_same(found, expected)
        assert found.version == served.service.living.current.name


@pytest.mark.parametrize("cache", [0, 100])
def test_a_query_alone_and_in_any_batch_has_one_answer(tiny_workdir, retriever, cache):
    """And so it has where many clients ask at once for different things."""
    with running(tiny_workdir, cache=cache) as service:
        alone = [service.client.retrieve([text], k=4)[0] for text in TEXTS]
        denied = [found.hits[0].id for found in alone]
        together = service.client.retrieve(TEXTS, k=4)
        with concurrent.futures.ThreadPoolExecutor(12) as clients:
            ask = service.client.retrieve
            plain = [clients.submit(ask, [text], k=4) for text in TEXTS * 3]
            narrowed = [
                clients.submit(ask, [text], k=4, filter={"deny_ids": [product]})
                for text, product in zip(TEXTS, denied, strict=True)
            ]
            at_once = [future.result()[0] for future in plain]
            without = [future.result()[0] for future in narrowed]
        for batch in (together, at_once[:7], at_once[7:14], at_once[14:]):
            for one, other in zip(alone, batch, strict=True):
                assert ids(one) == ids(other)
                np.testing.assert_allclose(
                    [h.score for h in one.hits], [h.score for h in other.hits], atol=2e-4
                )
        for text, found, product in zip(TEXTS, without, denied, strict=True):
            assert_same(found, retriever.search(text, k=4, deny_ids=[product]))
        assert service.compilations.serving == 0
        kept = service.service.metrics.cache.labels("yes")._value.get()
        assert kept == (0 if cache == 0 else 7 + 3 * 7)


def test_filters(served, retriever):
    category = " > ".join(retriever.catalog.paths[0][:1])
    for given in (
        {"allow_categories": [category]},
        {"allow_categories": [[category]], "deny_ids": [retriever.catalog.ids[0]]},
        {"deny_categories": [category]},
        {"allow_ids": retriever.catalog.ids[:3]},
    ):
        (found,) = served.client.retrieve(["tea"], k=5, filter=given)
        assert_same(found, retriever.search("tea", k=5, **given))
    (nothing,) = served.client.retrieve(["tea"], k=5, filter={"allow_ids": []})
    assert nothing.hits == []


def test_filters_by_further_fields(served, retriever):
    brands = {p.id: p.extra.get("brand") for p in retriever.catalog}
    brand = next(filter(None, brands.values()))
    given = {"attributes": {"brand": {"one_of": [brand]}}}
    (found,) = served.client.retrieve(["tea"], k=12, filter=given)
    assert set(ids(found)) == {i for i, b in brands.items() if b == brand}
    for wrong in ({"price": {"at_most": 3}}, {"": {}}):
        error = refused(served.client.retrieve, ["tea"], filter={"attributes": wrong})
        assert (error.status, error.field) == (422, "filter.attributes")


def test_words_and_both_fused(served, retriever, words):
    """Reciprocal rank fusion, written out."""
    (by_words,) = served.client.retrieve(["red camera"], k=5, method="bm25")
    expected = words.search("red camera", k=5)
    assert ids(by_words) == [hit.product.id for hit in expected]
    assert by_words.proven is None

    (both,) = served.client.retrieve(["red camera"], k=6, method="hybrid")
    scores = {}
    for retrieved in (retriever, words):
        for place, hit in enumerate(retrieved.search("red camera", k=BEAMS)):
            scores[hit.product.id] = scores.get(hit.product.id, 0) + 1 / (61 + place)
    best = sorted(scores.values(), reverse=True)[:6]
    np.testing.assert_allclose([hit.score for hit in both.hits], best, rtol=1e-6)
    assert [scores[product] for product in ids(both)] == pytest.approx(best)


@pytest.mark.slow
def test_exactness(tiny_workdir, retriever):
    """With more beams than products everything is proven."""
    k = 32
    few = catid2_jax.load(tiny_workdir, beams=k)
    unproven = next(text for text in TEXTS if not few.search(text, k=k).proven)
    with running(tiny_workdir, beams=k, max_beams=64, beam_rows=64, cache=8) as service:
        (found,) = service.client.retrieve([unproven], k=k)
        assert found.proven is False
        for _ in range(2):  # searched for, and kept
            (found,) = service.client.retrieve([unproven], k=k, exact=True)
            assert found.proven is True
        everything = catid2_jax.load(tiny_workdir, beams=64).search(unproven, k=k)
        assert ids(found) == [hit.product.id for hit in everything]
        assert service.compilations.serving == 0


def test_similar(served, retriever):
    product = retriever.catalog[4]
    found = served.client.similar(product.id, k=5)
    expected = [h.product.id for h in retriever.search(product.title, k=6)]
    assert ids(found) == [i for i in expected if i != product.id][:5]
    assert refused(served.client.similar, "none").status == 404
    assert refused(served.client.similar, product.id, k=BEAMS).field == "k"


def test_products(served, retriever):
    """Neighbours by brute force over all IDs."""
    table, row = retriever.table, 7
    product = retriever.catalog[row]
    found = served.client.product(product.id)
    assert found["codes"] == table.codes[row].tolist()
    assert found["docid"] == format_docid(table.codes[row])
    assert (found["title"], found["text"]) == (product.title, product.text)
    assert (found["extra"], found["in_stock"]) == (dict(product.extra), True)

    def shared(other):
        count = 0
        for one, two in zip(table.codes[row], table.codes[other], strict=True):
            if one != two:
                break
            count += 1
        return count

    others = [n for n in range(len(table.ids)) if n != row and shared(n)]
    best = sorted(others, key=lambda n: (-shared(n), table.codes[n].tolist()))[:10]
    assert [n["id"] for n in found["neighbours"]] == [table.ids[n] for n in best]
    assert refused(served.client.product, "no such").status == 404


def test_the_tree(served, retriever):
    codes, ids_ = retriever.table.codes, retriever.table.ids
    prefix = codes[5, :1].tolist()
    path = urllib.parse.quote(format_docid(prefix), safe="")
    found = served.client.call("GET", f"/v1/tree/{path}")
    beneath = [n for n in range(len(codes)) if codes[n, 0] == prefix[0]]
    assert found["products"] == len(beneath)
    assert sorted(found["ids"]) == sorted(ids_[n] for n in beneath)
    children = sorted({int(codes[n, 1]) for n in beneath})
    assert [c["docid"] for c in found["children"]] == [format_docid([*prefix, c]) for c in children]
    assert sum(child["products"] for child in found["children"]) == len(beneath)
    root = served.client.call("GET", "/v1/tree")
    assert (root["products"], root["ids"]) == (len(codes), [])
    assert refused(served.client.call, "GET", "/v1/tree/%3Ca_7%3E%3Cb_7%3E%3Cc_7%3E").status == 404
    assert refused(served.client.call, "GET", "/v1/tree/a").field == "prefix"


def test_health_and_metrics(served):
    for path, word in (("/health", "alive"), ("/ready", "ready")):
        answer = served.client.call("GET", path)
        assert (answer["status"], answer["compilations"]) == (word, 0)
    before = served.metric("catid2_beam_rows_total")
    served.client.retrieve(["a query that nobody has asked before"])
    assert served.metric("catid2_beam_rows_total") == before + BEAMS
    assert served.metric("catid2_compilations_after_warmup") == 0
    assert served.metric("catid2_compilations_of_warmup") > 0


def test_compilations_are_counted(served):
    def compile_something():
        jax.jit(lambda x: 3 * x)(np.ones(5, np.float32))

    assert served.compilations.serving == 0
    before = served.compilations.preparing
    compile_something()  # in a block of `prepared`
    assert (served.compilations.serving, served.compilations.preparing > before) == (0, True)
    thread = threading.Thread(target=compile_something)
    thread.start()
    thread.join()
    try:
        assert served.compilations.serving > 0
    finally:
        served.compilations.serving = 0


def test_keys(tiny_workdir):
    with running(tiny_workdir, key="secret") as service:
        assert service.client.retrieve(["tea"], k=1)[0].hits
        for key in ("", "secre", "secret2", "admin"):
            stranger = Client(service.url, key)
            for method, path, body in (
                ("POST", "/v1/retrieve", {"queries": "tea"}),
                ("GET", "/v1/tree", None),
                ("GET", "/metrics", None),
            ):
                assert refused(stranger.call, method, path, body).status == 401
        for path in ("/health", "/ready"):
            assert Client(service.url).call("GET", path)
        stock = ("PUT", "/v1/admin/stock", {"out_of_stock": []})
        assert refused(service.client.call, *stock).status == 401
        assert Client(service.url, "admin").call(*stock)["out_of_stock"] == 0
    with running(tiny_workdir, admin_key="") as service:
        assert refused(service.client.call, *stock).status == 401
        assert refused(Client(service.url, "admin").call, *stock).status == 401
