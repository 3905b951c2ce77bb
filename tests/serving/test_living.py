"""Products, stock and models that change while requests come: one version per answer."""

import shutil
import threading

import jax
import numpy as np
import pytest

from catid2_jax.docids.table import format_docid
from catid2_jax.errors import InputError
from catid2_jax.files import write_json
from catid2_jax.serving import living as living_module
from catid2_jax.serving.living import Changes
from tests.serving.running import running
from tests.serving.test_answers import ids, refused


@pytest.fixture
def served(tiny_workdir, tmp_path):
    with running(tiny_workdir, state=str(tmp_path / "state.json")) as service:
        yield service


def free_docid(service):
    """An ID that no product has."""
    table = service.service.living.current.table
    taken = set(map(tuple, table.codes.tolist()))
    shape = (table.codebook_size,) * table.levels
    return format_docid(next(codes for codes in np.ndindex(shape) if codes not in taken))


def record(product_id, **fields):
    return {"id": product_id, "title": "blue teapot", "categories": ["Kitchen", "Tea"], **fields}


def test_stock(served):
    (before,) = served.client.retrieve(["tea"], k=5)
    gone = ids(before)[:2]
    answer = served.admin.call("PUT", "/v1/admin/stock", {"out_of_stock": [*gone, "unknown"]})
    assert answer["out_of_stock"] == 2
    for method in ("generated", "bm25", "hybrid"):
        (after,) = served.client.retrieve(["tea"], k=12, method=method)
        assert after.version == answer["version"] != before.version
        assert not set(gone) & set(ids(after))
    assert not served.client.product(gone[0])["in_stock"]
    (after,) = served.client.retrieve(["tea"], k=3)
    assert ids(after) == ids(before)[2:5]
    served.admin.call("PUT", "/v1/admin/stock", {"out_of_stock": []})
    assert served.client.retrieve(["tea"], k=5) == [before]
    assert served.compilations.serving == 0


def test_products(served):
    """A new one is found by its ID, a changed one keeps it, one that is gone is not found."""
    (before,) = served.client.retrieve(["tea"], k=12)
    changed, removed = ids(before)[:2]
    docid = free_docid(served)
    body = {
        "upsert": [record("new", docid=docid, extra={"price": 5}), record(changed, title="Teapot")],
        "remove": [removed],
    }
    version = served.admin.call("POST", "/v1/admin/products", body)["version"]
    assert served.client.product("new")["docid"] == docid
    assert served.client.product(changed)["title"] == "Teapot"
    assert served.client.product(changed)["docid"] == before.hits[0].docid
    assert refused(served.client.product, removed).status == 404
    (found,) = served.client.retrieve(["tea"], k=12)
    assert found.version == version
    assert removed not in ids(found)
    scores = {hit.id: hit.score for hit in found.hits}
    assert scores[changed] == pytest.approx(before.hits[0].score, abs=2e-4)
    (alone,) = served.client.retrieve(
        ["tea"], k=1, filter={"attributes": {"price": {"at_most": 5}}}
    )
    assert ids(alone) == ["new"]
    (by_words,) = served.client.retrieve(["blue teapot"], k=2, method="bm25")
    assert ids(by_words)[0] == "new"
    assert served.compilations.serving == 0
    everything = served.client.retrieve(["tea"], k=12, filter={"allow_ids": ["new"]})
    assert ids(everything[0]) == ["new"]


def test_wrong_changes_change_nothing(served):
    call = served.admin.call
    version = served.service.living.current
    product = version.catalog.ids[0]
    taken = format_docid(version.table.codes[1].tolist())
    free = free_docid(served)
    for body, field in (
        ({"upsert": [record("new")]}, "upsert.0.docid"),
        ({"upsert": [record("new", docid="<a_1>")]}, "upsert.0.docid"),
        ({"upsert": [record("new", docid="a_1")]}, "upsert.0.docid"),
        ({"upsert": [record("new", docid="<a_99><b_0><c_0>")]}, "upsert.0.docid"),
        ({"upsert": [record("new", docid=taken)]}, "upsert.0.docid"),
        ({"upsert": [record("n", docid=free), record("m", docid=free)]}, "upsert.1.docid"),
        ({"upsert": [record("a b", docid=free)]}, "upsert.0"),
        ({"upsert": [record("new", docid=free, title=" ")]}, "upsert.0"),
        ({"upsert": [record("new", docid=free) | {"price": 1}]}, "upsert.0.price"),
        ({"remove": ["none"]}, "remove.0"),
        ({"remove": [product, product]}, ""),
        ({}, ""),
    ):
        error = refused(call, "POST", "/v1/admin/products", body)
        assert (error.status, error.field) == (422, field), body
    everything = {"remove": list(version.catalog.ids)}
    assert refused(call, "POST", "/v1/admin/products", everything).status == 422
    assert refused(call, "POST", "/v1/admin/version", {"bundle": "none"}).status == 422
    assert refused(call, "POST", "/v1/admin/version", {"bundle": "../x"}).field == "bundle"
    assert served.service.living.current is version


def test_changes_survive_a_restart(tiny_workdir, tmp_path):
    state = tmp_path / "state.json"
    with running(tiny_workdir, state=str(state)) as service:
        gone = service.service.living.current.catalog.ids[3]
        body = {"upsert": [record("new", docid=free_docid(service))], "remove": [gone]}
        service.admin.call("POST", "/v1/admin/products", body)
        stock = {"out_of_stock": [service.service.living.current.catalog.ids[0]]}
        version = service.admin.call("PUT", "/v1/admin/stock", stock)["version"]
        (found,) = service.client.retrieve(["tea"], k=12)
    with running(tiny_workdir, state=str(state)) as service:
        assert service.service.living.current.name == version
        assert service.client.retrieve(["tea"], k=12) == [found]
        assert service.client.product("new")["title"] == "blue teapot"
    state.write_text(state.read_text().replace("teapot", "teapit"))
    with pytest.raises(InputError) as error, running(tiny_workdir, state=str(state)):
        pass
    assert error.value.where == str(state)


def test_the_same_changes_have_the_same_name():
    one = Changes({}, ("a",), ("b",))
    assert one.name_on("x") == Changes({}, ("a",), ("b",)).name_on("x")
    assert len({one.name_on("x"), one.name_on("y"), Changes({}, ("b",)).name_on("x"), "x"}) == 4
    assert Changes().name_on("x") == "x"


def spoil_weights():
    """A `load_base` that gives a network of NaN, which a self-check has to notice."""

    def spoilt(*arguments, **settings):
        base = load(*arguments, **settings)
        inner = base.retriever.retriever
        params = jax.tree.map(lambda leaf: leaf * np.nan, inner.model.params)
        object.__setattr__(inner.model, "params", params)
        return base

    load = living_module.load_base
    return spoilt


def test_another_model_takes_over_while_requests_come(tiny_workdir, tmp_path, monkeypatch):
    """Every answer is wholly of one version; a version that fails its check is never seen."""
    versions = tmp_path / "versions"
    other = shutil.copytree(tiny_workdir, versions / "next")
    path = other / "cat_id2" / "steps" / "retrieve.json"
    path.unlink()  # another record, and so another name
    with running(tiny_workdir, versions=str(versions), queue=1024) as service:
        first = service.service.living.current.name
        gone = service.client.retrieve(["tea"], k=1)[0].hits[0].id
        answers, failures, stop = [], [], threading.Event()

        def ask():
            number = 0
            while not stop.is_set():
                number += 1
                try:
                    (found,) = service.client.retrieve([f"tea {number % 7}"], k=12)
                    answers.append((found.version, gone in ids(found)))
                except Exception as error:
                    failures.append(error)

        clients = [threading.Thread(target=ask) for _ in range(4)]
        for client in clients:
            client.start()
        call, seen = service.admin.call, [first]
        try:
            for _ in range(3):
                for stock in ([gone], []):
                    body = {"out_of_stock": stock}
                    seen.append(call("PUT", "/v1/admin/stock", body)["version"])
            seen.append(call("POST", "/v1/admin/version", {"bundle": "next"})["version"])
            with monkeypatch.context() as patch:
                patch.setattr(living_module, "load_base", spoil_weights())
                error = refused(call, "POST", "/v1/admin/version", {"bundle": "next"})
                assert error.status == 422
                assert "damaged" in error.error
        finally:
            stop.set()
            for client in clients:
                client.join()
        assert failures == []
        assert {version for version, _ in answers} <= set(seen)
        hidden = seen[1]
        assert len({version for version, _ in answers}) > 1
        assert not [1 for version, found in answers if found and version == hidden]
        assert service.service.living.current.name == seen[-1] != first
        assert service.compilations.serving == 0


def test_a_full_disk_keeps_the_version(served, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device", "state.json")

    before = served.service.living.current
    monkeypatch.setattr(living_module, "write_sealed", full)
    error = refused(served.admin.call, "PUT", "/v1/admin/stock", {"out_of_stock": ["p0000001"]})
    assert (error.status, "No space left" in error.error) == (409, True)
    assert served.service.living.current is before
    assert served.client.retrieve(["tea"], k=1)[0].version == before.name


def test_a_damaged_version_is_refused(tiny_workdir, tmp_path):
    """The one before goes on, and it is said which file is at fault."""
    versions = tmp_path / "versions"
    other = shutil.copytree(tiny_workdir, versions / "bad")
    with (other / "cat_id2" / "docids.jsonl").open("a") as file:
        file.write("{}\n")
    write_json(versions / "unfinished" / "steps" / "prepare.json", {})
    with running(tiny_workdir, versions=str(versions)) as service:
        before = service.service.living.current
        error = refused(service.admin.call, "POST", "/v1/admin/version", {"bundle": "bad"})
        assert error.field.endswith("docids.jsonl")
        assert (
            refused(
                service.admin.call, "POST", "/v1/admin/version", {"bundle": "unfinished"}
            ).status
            == 422
        )
        assert service.service.living.current is before
        text = service.service.metrics.text().decode()
        assert 'catid2_version_changes_total{outcome="refused"} 2.0' in text
