"""What was exported, run by a process without this package, beside the search of here."""

import json
import pathlib
import shutil
import subprocess
import sys

import jax
import jaxtyping
import numpy as np
import pytest

from catid2_jax.config import view
from catid2_jax.decoding.trie import build_trie
from catid2_jax.errors import InputError
from catid2_jax.loading import TRAINED_READS
from catid2_jax.steps import export
from catid2_jax.workdir import Workdir
from tests.steps.exported import read_arrays
from tests.steps.trained import CODES, IDS, QUERIES, K, N, make, resolved, search

SCRIPT = pathlib.Path(__file__).with_name("exported.py")
HOME = np.flatnonzero(np.arange(N) % 3 < 2)
CASES = {  # fields of the configuration, batch sizes, what may be found
    "float32": ({}, [1, 5], np.arange(N)),
    "bfloat16": (
        {"param_dtype": "bfloat16", "normalize_over": "valid", "beams": 9, "k": 4},
        [5],
        np.arange(N),
    ),
    "int8": ({"param_dtype": "int8", "allow_categories": "home.txt"}, [5], HOME),
}
KEPT = np.arange(3, N)


def write_export(workdir, name="cat_id2", **changes):
    """Runs the step, which sees what the verb lets it see; returns the folder."""
    system, place = resolved(workdir, name, **changes)
    export.run(view(system.config, ("retrieve", *TRAINED_READS), "export"), place, system)
    return place.folder / "export"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Per case: the directory of its export, with what was found elsewhere, and the run of here."""
    root = tmp_path_factory.mktemp("export")
    workdir = make(root / "work")[0]
    (root / "home.txt").write_text("Home\n")
    (root / "texts.json").write_text(json.dumps(list(QUERIES.values())))
    runs = {}
    # Checks at run time know no shape with a symbol for the batch size.
    jaxtyping.config.update("jaxtyping_disable", True)
    for name, (changes, batches, _) in CASES.items():
        if "allow_categories" in changes:
            changes = changes | {"allow_categories": str(root / "home.txt")}
        runs[name] = search(workdir, **changes, batch_size=5)
        shutil.move(write_export(workdir, **changes), root / name)
        (root / name / "batches.json").write_text(json.dumps(batches))
    jaxtyping.config.update("jaxtyping_disable", False)
    others = export.to_arrays({"trie": build_trie(CODES[KEPT], K)})
    np.savez(root / "float32" / "other.npz", **others)
    command = [sys.executable, "-I", SCRIPT, root / "texts.json", *(root / name for name in CASES)]
    subprocess.run(list(map(str, command)), cwd=root, check=True)
    return {name: (root / name, run) for name, run in runs.items()}


def test_nothing_tells_where_the_source_lay(made):
    package = pathlib.Path(export.__file__).parent.parent
    for name in CASES:
        for path in made[name][0].glob("*"):
            content = path.read_bytes()
            assert b".py" not in content, path
            assert str(package.parent).encode() not in content, path


@pytest.mark.parametrize("name", CASES)
def test_a_process_without_the_package_finds_the_same(made, name):
    changes, batches, allowed = CASES[name]
    directory, run = made[name]
    found = read_arrays(directory / "found.npz")
    products = (directory / "products.txt").read_text().split()
    k = changes.get("k", 40)
    count = min(k, len(allowed))
    for batch in batches:
        documents, scores = found[f"{batch}/documents"], found[f"{batch}/scores"]
        assert documents.shape == scores.shape == (len(QUERIES), k)
        for query, name in enumerate(QUERIES):
            assert set(documents[query, :count].tolist()) <= set(allowed.tolist())
            ranking = [products[document] for document in documents[query, :count]]
            assert ranking == [product for product, _ in run[name]]
            expected = [score for _, score in run[name]]
            np.testing.assert_allclose(scores[query, :count], expected, rtol=1e-6)
        assert (documents[:, count:] == -1).all()
        assert (scores[:, count:] == -np.inf).all()
        if k == 40:  # more beams than products
            assert found[f"{batch}/exact"].all()


def test_another_catalogue_of_the_same_capacities_takes_the_place_of_the_first(made):
    found = read_arrays(made["float32"][0] / "found.npz")
    for query in range(len(QUERIES)):
        before, after = (found[f"{label}/documents"][query] for label in ("5", "other"))
        left = np.isin(before, KEPT)
        assert KEPT[after[: len(KEPT)]].tolist() == before[left].tolist()
        assert (after[len(KEPT) :] == -1).all()
        np.testing.assert_array_equal(
            found["other/scores"][query, : len(KEPT)], found["5/scores"][query, left]
        )


def test_the_files_say_how_they_are_used(made):
    directory = made["bfloat16"][0]
    assert json.loads((directory / "export.json").read_text()) == {
        "source_tokens": 6,
        "pad": 0,
        "end": 1,
        "k": 4,
        "beams": 9,
        "normalize_over": "valid",
        "param_dtype": "bfloat16",
        "platforms": ["cpu", "cuda", "rocm", "tpu"],
        "jax": jax.__version__,
    }
    assert (directory / "products.txt").read_text().splitlines() == IDS
    arrays = read_arrays(directory / "arrays.npz")
    assert arrays["params/token_embedder/embedding"].dtype == np.uint16
    assert arrays["trie/codes/0"].dtype == np.uint8


@pytest.mark.parametrize(("system", "retriever"), [("clusters", "clusters"), ("bm25", "bm25")])
def test_what_does_not_search_for_whole_ids_is_not_exported(tmp_path, system, retriever):
    with pytest.raises(InputError) as error:
        write_export(Workdir(tmp_path), system)
    assert error.value.where == "config.systems"
    assert error.value.found == f"{system!r}, which searches by {retriever}"
    assert not (tmp_path / system / "export").exists()
