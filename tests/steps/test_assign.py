"""What `assign` leaves of an earlier table, in a work directory whose files are written here."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax.config import default_config, freeze
from catid2_jax.docids.living import RestingIds, read_resting, resting_path, write_resting
from catid2_jax.docids.table import DocidTable, read_docids, write_docids
from catid2_jax.schemes.rqvae.standardization import no_standardization
from catid2_jax.errors import InputError
from catid2_jax.files import write_json, write_npy
from catid2_jax.models.rqvae import RQVAE
from catid2_jax.steps import assign
from catid2_jax.steps.workdir import Workdir
from catid2_jax.training.checkpoint import Checkpoints
from catid2_jax.training.loop import TrainState
from catid2_jax.training.optimizer import make_optimizer

# The encoder is the identity, so that an embedding is its own latent; two codes nearby, two far.
CODEBOOKS = np.array([[[-3, 0], [-1, 0], [1, 0], [3, 0]], [[0, -1], [0, -0.5], [0, 0.5], [0, 1]]])


def config(**changes):
    values = default_config()
    values.embedding.encoder, values.embedding.path = "precomputed", "vectors.npy"
    values.rqvae.update(levels=2, codebook_size=4, category_levels=1, latent_dim=2, hidden_dims=())
    for name, value in changes.items():
        if name == "encoder":
            values.embedding.update(encoder=value, path="")
        elif name == "codes":
            values.rqvae.codebook_size = value
        else:
            values.docids[name] = str(value) if name in ("path", "previous") else value
    return freeze(values)


def write_embeddings(workdir, places):
    write_npy(workdir.embeddings, np.array([*places.values()], np.float32))
    workdir.embeddings.with_suffix(".ids.txt").write_text("".join(f"{i}\n" for i in places))


def write_stage_1(workdir, codebooks):
    model, settings = RQVAE(config().rqvae, 2), config().rqvae_training
    params = model.init(jax.random.key(0), jnp.zeros((1, 2)))["params"]
    params["encoder"]["Dense_0"]["kernel"] = jnp.eye(2)
    params["quantizer"]["codebooks"] = jnp.asarray(codebooks, jnp.float32)
    optimizer = make_optimizer(settings, 1)
    state = TrainState(jnp.int32(7), params, optimizer.init(params), no_standardization(2))
    with Checkpoints(workdir.checkpoints("rqvae")) as checkpoints:
        checkpoints.save(7, state)


def ids(workdir):
    table = read_docids(workdir.docids)
    return dict(zip(table.ids, map(tuple, table.codes.tolist()), strict=True))


MONDAY = {"a": (-3, -1), "b": (-3, -1), "c": (3, 0.5), "d": (1, 1), "e": (1, -1)}


@pytest.fixture
def monday(tmp_path):
    """A first assignment; the nearest ID of a and b is one, so one of them has another."""
    workdir = Workdir(tmp_path / "monday")
    write_embeddings(workdir, MONDAY)
    write_stage_1(workdir, CODEBOOKS)
    assign.run(config(), workdir)
    first = ids(workdir)
    assert {first["a"], first["b"]} == {(0, 0), (0, 1)}
    assert (first["c"], first["d"], first["e"]) == ((3, 2), (2, 3), (2, 0))
    assert not resting_path(workdir.docids).exists()
    return workdir


def day(tmp_path, name, places, before, **changes):
    """The work directory of a later day."""
    workdir = Workdir(tmp_path / name)
    write_embeddings(workdir, places)
    assign.run(config(previous=before.docids, **changes), workdir)
    return workdir


def test_days_of_a_catalogue(monday, tmp_path):
    first = ids(monday)
    # c has changed, d is gone, f is where d was; the rows are in another order.
    places = {"f": (1, 1), "c": (-1, -1)} | {i: MONDAY[i] for i in "eba"}
    tuesday = day(tmp_path, "tuesday", places, monday, grace=2)
    second = ids(tuesday)
    assert list(second) == list("fceba")
    assert {i: second[i] for i in "abe"} == {i: first[i] for i in "abe"}
    assert second["c"] == (1, 0)
    assert second["f"] == (2, 2)  # beside d's, which rests
    resting = read_resting(resting_path(tuesday.docids), read_docids(tuesday.docids))
    rows = zip(resting.ids, map(tuple, resting.codes), resting.updates_left, strict=True)
    assert set(rows) == {("c", (3, 2), 2), ("d", (2, 3), 2)}
    metrics = json.loads(tuesday.metrics("assign").read_text())
    counts = {name: value for name, value in metrics.items() if name.startswith("products_")}
    assert counts == {
        "products_kept": 3,
        "products_returned": 0,
        "products_changed": 1,
        "products_new": 1,
        "products_removed": 1,
    }
    assert metrics["resting_ids"] == 2
    assert metrics["collision_rate"] == pytest.approx(0.4)

    # d is back, and g would like the ID that c had, which rests for the last time.
    places |= {"d": MONDAY["d"], "g": MONDAY["c"]}
    wednesday = day(tmp_path, "wednesday", places, tuesday, grace=2)
    third = ids(wednesday)
    assert third.items() >= second.items()
    assert third["d"] == first["d"]
    assert third["g"] != first["c"]
    assert third["g"][0] == first["c"][0]

    del places["g"]
    thursday = day(tmp_path, "thursday", places | {"h": MONDAY["c"]}, wednesday, grace=2)
    fourth = ids(thursday)
    assert fourth["h"] == first["c"]
    assert {i: fourth[i] for i in places} == {i: third[i] for i in places}


def test_stage_1_comes_along_so_that_the_first_day_may_go(monday, tmp_path):
    tuesday = day(tmp_path, "tuesday", MONDAY, monday)
    assert ids(tuesday) == ids(monday)
    monday.root.rename(tmp_path / "gone")
    wednesday = day(tmp_path, "wednesday", MONDAY | {"f": (-1, 0.5)}, tuesday)
    assert ids(wednesday) == ids(tuesday) | {"f": (1, 2)}
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_baseline_goes_on_from_its_own_table(monday, tmp_path):
    tiger = Workdir(monday.root, "tiger")
    write_stage_1(tiger, CODEBOOKS[:, ::-1])
    assign.run(config(), tiger)
    tuesday = Workdir(tmp_path / "tuesday", "tiger")
    write_embeddings(tuesday, MONDAY)
    assign.run(config(previous=monday.docids), tuesday)
    assert ids(tuesday) == ids(tiger) != ids(monday)


def test_a_given_table_is_taken_as_it_is(monday, tmp_path):
    workdir = Workdir(tmp_path / "given")
    write_embeddings(workdir, {i: MONDAY[i] for i in "ca"})
    assign.run(config(path=monday.docids), workdir)
    assert ids(workdir) == {i: ids(monday)[i] for i in "ca"}
    write_embeddings(workdir, MONDAY | {"x": (0, 0)})
    with pytest.raises(InputError, match="no document ID for 1 products, the first is 'x'"):
        assign.run(config(path=monday.docids), workdir)


def test_what_cannot_be_gone_on_from(monday, tmp_path):
    workdir = Workdir(tmp_path / "tuesday")
    write_embeddings(workdir, MONDAY)

    def refused(message, **changes):
        with pytest.raises(InputError, match=message):
            assign.run(config(**({"previous": monday.docids} | changes)), workdir)
        assert not workdir.docids.exists()

    refused("missing.jsonl: .*no such file", previous=tmp_path / "missing.jsonl")
    refused("'lsa', which is fitted to each catalogue anew", encoder="lsa")
    refused("found 2 levels and codes up to 3, expected .* below rqvae.codebook_size = 3", codebook_size=3)

    levels = tmp_path / "three.jsonl"
    write_docids(levels, DocidTable(["a"], np.array([[1, 2, 3]], np.int32)))
    refused("found 3 levels and codes up to 3, expected rqvae.levels = 2", previous=levels)

    alone = tmp_path / "alone.jsonl"
    alone.write_bytes(monday.docids.read_bytes())
    refused("rqvae: found no stage 1, expected the one of docids.previous", previous=alone)

    outside = np.array([[0, 4]], np.int32)
    write_resting(resting_path(monday.docids), RestingIds(["z"], outside, outside, np.array([1])))
    refused("docids.resting.jsonl: found 2 levels and codes up to 4")
    resting_path(monday.docids).unlink()

    write_json(workdir.record("train_rqvae"), {"done": True})
    refused("found a stage 1 trained here, expected none with docids.previous")


def test_more_products_than_ids_that_are_free(monday, tmp_path):
    places = {f"n{i}": (3, 0.5) for i in range(12)}
    with pytest.raises(InputError, match=r"found 12 new and changed products, expected at most 11"):
        day(tmp_path, "tuesday", places | {"a": MONDAY["a"]}, monday)
    tuesday = day(tmp_path, "wednesday", places | {"a": MONDAY["a"]}, monday, grace=0)
    assert len(set(ids(tuesday).values())) == 13


def test_fields_that_do_not_go_together():
    with pytest.raises(InputError, match=r"path is 'x' and previous is 'y': expected one at most"):
        config(path="x", previous="y")
    with pytest.raises(InputError, match=r"config.docids.grace is -1: expected at least 0"):
        config(grace=-1)
