"""What the step `docids` makes of an earlier table, in work directories that are written here."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax.config import default_config, freeze, view
from catid2_jax.data.corpus import write_columns
from catid2_jax.docids.living import RestingIds, read_resting, resting_path, write_resting
from catid2_jax.docids.table import DocidTable, read_docids, write_docids
from catid2_jax.errors import InputError
from catid2_jax.files import write_npy
from catid2_jax.models.rqvae import RQVAE
from catid2_jax.resolution import resolve_system
from catid2_jax.schemes.rqvae.standardization import no_standardization
from catid2_jax.steps import fit_docids
from catid2_jax.training.checkpoint import Checkpoints
from catid2_jax.training.loop import TrainState
from catid2_jax.training.optimizer import make_optimizer
from catid2_jax.types import Product
from catid2_jax.workdir import Workdir, place_of

# The encoder is the identity, so that an embedding is its own latent; two codes nearby, two far.
CODEBOOKS = np.array([[[-3, 0], [-1, 0], [1, 0], [3, 0]], [[0, -1], [0, -0.5], [0, 0.5], [0, 1]]])


def config(**changes):
    values = default_config()
    values.embedding.encoder, values.embedding.path = "precomputed", "vectors.npy"
    values.rqvae.update(levels=2, codebook_size=4, category_levels=1, latent_dim=2, hidden_dims=())
    values.rqvae.linear_path = "none"
    values.rqvae_training.steps = 7  # the checkpoint of `write_stage_1` is at the end of them
    for name, value in changes.items():
        if name == "encoder":
            values.embedding.update(encoder=value, path="")
        elif name == "codebook_size":
            values.rqvae.codebook_size = value
        else:
            values.docids[name] = str(value) if name in ("path", "previous") else value
    return freeze(values)


def place(root, name="cat_id2"):
    """Where a system's files lie."""
    settings = config()
    return place_of(resolve_system(name, settings), settings, Workdir(root))


def fit(root, name="cat_id2", **changes):
    """Runs the step, which sees what it declares; returns what it says of the IDs."""
    system = resolve_system(name, config(**changes))
    seen = view(system.config, (*system.sections, system.option_names[0]), "docids")
    return fit_docids.run(seen, place(root, name), system)


def write_data(root, places):
    products = [Product(i, "title", "", ("A", "B", "C")) for i in places]
    write_columns(Workdir(root).catalog, enumerate(products))
    write_npy(place(root).embeddings, np.array([*places.values()], np.float32))


def write_stage_1(root, codebooks, name="cat_id2"):
    model, settings = RQVAE(config().rqvae, 2), config().rqvae_training
    params = model.init(jax.random.key(0), jnp.zeros((1, 2)))["params"]
    params["encoder"]["Dense_0"]["kernel"] = jnp.eye(2)
    params["quantizer"]["codebooks"] = jnp.asarray(codebooks, jnp.float32)
    optimizer = make_optimizer(settings, 1)
    state = TrainState(jnp.int32(7), params, optimizer.init(params), no_standardization(2))
    with Checkpoints(root / name / "rqvae") as checkpoints:
        checkpoints.save(7, state)


def ids(root, name="cat_id2"):
    table = read_docids(place(root, name).docids)
    return dict(zip(table.ids, map(tuple, table.codes.tolist()), strict=True))


MONDAY = {"a": (-3, -1), "b": (-3, -1), "c": (3, 0.5), "d": (1, 1), "e": (1, -1)}


@pytest.fixture
def monday(tmp_path):
    """A first assignment; the nearest ID of a and b is one, so one of them has another."""
    root = tmp_path / "monday"
    write_data(root, MONDAY)
    write_stage_1(root, CODEBOOKS)
    assert fit(root) == {"levels": 2, "codebook_size": 4}
    first = ids(root)
    assert {first["a"], first["b"]} == {(0, 0), (0, 1)}
    assert (first["c"], first["d"], first["e"]) == ((3, 2), (2, 3), (2, 0))
    assert not resting_path(place(root).docids).exists()
    return root


def day(tmp_path, name, places, before, **changes):
    """The work directory of a later day."""
    root = tmp_path / name
    write_data(root, places)
    fit(root, previous=before, **changes)
    return root


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
    docids = place(tuesday).docids
    resting = read_resting(resting_path(docids), read_docids(docids))
    rows = zip(resting.ids, map(tuple, resting.codes), resting.updates_left, strict=True)
    assert set(rows) == {("c", (3, 2), 2), ("d", (2, 3), 2)}
    metrics = json.loads(place(tuesday).figures("docids").read_text())
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
    monday.rename(tmp_path / "gone")
    wednesday = day(tmp_path, "wednesday", MONDAY | {"f": (-1, 0.5)}, tuesday)
    assert ids(wednesday) == ids(tuesday) | {"f": (1, 2)}
    assert not list(tmp_path.rglob("*.tmp"))


def test_another_system_goes_on_from_its_own_table(monday, tmp_path):
    write_stage_1(monday, CODEBOOKS[:, ::-1], "tiger")
    fit(monday, "tiger")
    tuesday = tmp_path / "tuesday"
    write_data(tuesday, MONDAY)
    fit(tuesday, "tiger", previous=monday)
    assert ids(tuesday, "tiger") == ids(monday, "tiger") != ids(monday)
    assert not (tuesday / "cat_id2").exists()


def test_a_given_table_is_taken_as_it_is(monday, tmp_path):
    root, table = tmp_path / "given", place(monday).docids
    write_data(root, {i: MONDAY[i] for i in "ca"})
    assert fit(root, "given", path=table) == {"levels": 2, "codebook_size": 4}
    assert ids(root, "given") == {i: ids(monday)[i] for i in "ca"}
    assert list(ids(root, "given")) == ["c", "a"]  # the catalogue's order, not the table's
    assert fit(root, "given", path=table, path_codebook_size=9)["codebook_size"] == 9
    write_data(root, MONDAY | {"x": (0, 0)})
    with pytest.raises(InputError) as error:
        fit(root, "given", path=table)
    assert error.value.where == str(table)
    assert error.value.found == "no document ID for 1 products, the first is 'x'"
    with pytest.raises(InputError) as error:
        fit(root, "given")
    assert (error.value.where, error.value.found) == ("config.docids.path", "''")


def test_what_cannot_be_gone_on_from(monday, tmp_path):
    tuesday, before = tmp_path / "tuesday", place(monday)
    write_data(tuesday, MONDAY)

    def refused(where, found, expected, **changes):
        with pytest.raises(InputError) as error:
            fit(tuesday, **({"previous": monday} | changes))
        assert error.value.where == str(where)
        assert error.value.found.startswith(found)
        assert error.value.expected.startswith(expected)
        assert not place(tuesday).docids.exists()

    missing = tmp_path / "missing"
    refused(missing / "cat_id2/docids.jsonl", "no such file", "a file", previous=missing)
    refused(
        "config.embedding.encoder",
        "'lsa' with docids.previous",
        "an encoder that gives a product the same vector again",
        encoder="lsa",
    )
    refused(f"{before.docids}:3", "code 3", "0 to 2", codebook_size=3)

    three = tmp_path / "three"
    codes = np.array([[1, 2, 3]], np.int32)
    write_docids(place(three).docids, DocidTable(["a"], codes))
    refused(place(three).docids, "IDs of 3 codes", "levels = 2 codes", previous=three)

    alone = tmp_path / "alone"
    write_docids(place(alone).docids, read_docids(before.docids))
    refused(
        alone / "cat_id2/rqvae", "no stage 1", "that of the previous work directory", previous=alone
    )

    resting, outside = resting_path(before.docids), np.array([[0, 4]], np.int32)
    write_resting(resting, RestingIds(["z"], outside, outside, np.array([1])))
    refused(resting, "code 4", "0 to codebook_size - 1 = 3")
    resting.unlink()

    write_stage_1(tuesday, CODEBOOKS)
    refused(
        tuesday / "cat_id2/rqvae",
        "a stage 1 trained here",
        "none, since an earlier one is continued",
    )


def test_more_products_than_ids_that_are_free(monday, tmp_path):
    places = {f"n{i}": (3, 0.5) for i in range(12)}
    with pytest.raises(InputError) as error:
        day(tmp_path, "tuesday", places | {"a": MONDAY["a"]}, monday)
    assert error.value.found == "12 new and changed products"
    assert error.value.expected.startswith("at most 11")
    tuesday = day(tmp_path, "wednesday", places | {"a": MONDAY["a"]}, monday, grace=0)
    assert len(set(ids(tuesday).values())) == 13


@pytest.mark.parametrize(
    ("changes", "where", "found"),
    [
        ({"path": "x", "previous": "y"}, "previous", "'y' beside path 'x'"),
        ({"grace": -1}, "grace", "-1"),
        ({"path_codebook_size": -1}, "path_codebook_size", "-1"),
    ],
)
def test_fields_that_do_not_go_together(changes, where, found):
    with pytest.raises(InputError) as error:
        config(**changes)
    assert (error.value.where, error.value.found) == (f"config.docids.{where}", found)


def test_figures_of_levels_stand_side_by_side_and_those_before_reassignment_are_left_out():
    figures = {
        "collision_rate": 0.25,
        "quantization_error/level_1": 0.5,
        "quantization_error/level_2": 0.12345,
        "before_reassignment/perplexity/level_1": 7.0,
    }
    assert fit_docids.figure_lines(figures) == [
        "  collision rate: 0.25",
        "  quantization error: 0.5 0.1235",
    ]
