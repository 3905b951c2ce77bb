"""A bundle: loaded like a work directory, refused where a part is not its own, plain tables."""

import itertools
import json
import shutil

import jaxtyping
import numpy as np
import pytest

import catid2_jax
from catid2_jax import bundle, cli
from catid2_jax.bundle import load_bundle, read_bundle, write_tables
from catid2_jax.config import view
from catid2_jax.docids.table import DocidTable, format_docid
from catid2_jax.docids.vocabulary import CodeVocabulary
from catid2_jax.errors import InputError
from catid2_jax.files import write_sealed
from catid2_jax.loading import TRAINED_READS
from catid2_jax.steps import export
from catid2_jax.workdir import BUNDLE
from tests.steps.trained import IDS, QUERIES, K, L, make, resolved, search

DTYPES = ("float32", "bfloat16", "int8")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bundle per type of its parameters, and what the work directory finds."""
    workdir = make(tmp_path_factory.mktemp("bundle") / "work")[0]
    # Checks at run time know no shape with a symbol for the batch size.
    jaxtyping.config.update("jaxtyping_disable", True)
    runs = {}
    for param_dtype in DTYPES:
        system, place = resolved(workdir, param_dtype=param_dtype)
        export.run(view(system.config, ("retrieve", *TRAINED_READS), "export"), place, system)
        target = workdir.root / param_dtype
        shutil.move(place.folder / "export", target)
        runs[param_dtype] = target, search(workdir, param_dtype=param_dtype, batch_size=5)
    jaxtyping.config.update("jaxtyping_disable", False)
    return runs


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made["float32"][0], tmp_path / "bundle")


def refused(folder, system="", **settings):
    with pytest.raises(InputError) as error:
        catid2_jax.load(folder, system, **settings)
    return error.value


@pytest.mark.parametrize("param_dtype", DTYPES)
def test_it_finds_what_the_work_directory_finds(made, param_dtype):
    folder, run = made[param_dtype]
    retriever = catid2_jax.load(folder)
    assert (retriever.name, list(retriever.catalog.ids)) == ("cat_id2", IDS)
    for (name, expected), hits in zip(
        run.items(), retriever.search(list(QUERIES.values()), k=40), strict=True
    ):
        assert name in QUERIES
        assert [hit.product.id for hit in hits] == [product for product, _ in expected]
        np.testing.assert_allclose(
            [hit.score for hit in hits], [score for _, score in expected], rtol=1e-5
        )


def test_settings_of_the_search(made):
    folder = made["float32"][0]
    assert catid2_jax.load(folder, beams=7).retriever.config.beams == 7
    assert "param_dtype = 'int8'" in refused(folder, param_dtype="int8").found
    assert refused(folder, "tiger").found == "no system 'tiger'"


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != BUNDLE)


def test_every_part_is_checked(copy, made):
    """Another file in its place, a bit less of it, and none at all."""
    assert len(names(copy)) >= 8
    for name in names(copy):
        path = copy / name
        content = path.read_bytes()
        for spoilt in (content[:-1], content + b"x", content[:-1] + bytes([content[-1] ^ 1])):
            path.write_bytes(spoilt)
            error = refused(copy)
            assert error.where == str(path), name
            assert "does not belong" in error.found
        path.unlink()
        assert refused(copy).where == str(path)
        path.write_bytes(content)
    assert catid2_jax.load(copy).search("lamp", k=1)


def test_a_part_of_another_bundle_is_named(copy, made):
    other = made["int8"][0]
    shutil.copy(other / "arrays.npz", copy / "arrays.npz")
    assert refused(copy).where == str(copy / "arrays.npz")


def test_what_says_so_is_sealed(copy):
    values = json.loads((copy / BUNDLE).read_text())
    values["codebook_size"] += 1
    (copy / BUNDLE).write_text(json.dumps(values))
    assert "changed since" in refused(copy).found
    (copy / BUNDLE).write_text("{")
    assert refused(copy).where == str(copy / BUNDLE)


def test_no_other_verb_works_in_it(copy, capsys):
    before = sorted(path.name for path in copy.iterdir())
    with pytest.raises(SystemExit) as error:
        cli.main(
            lambda config, workdir: None, "", ["v", "--config=quickstart", f"--workdir={copy}"]
        )
    assert error.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: --workdir: found {copy}, a bundle")
    assert sorted(path.name for path in copy.iterdir()) == before


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [("format", 2, "a bundle of format 2"), ("filtered", True, "an export with filters")],
)
def test_other_bundles(copy, field, value, found):
    write_sealed(copy / BUNDLE, read_bundle(copy) | {field: value})
    assert refused(copy).found.startswith(found)


def test_ids_of_other_products(copy, monkeypatch):
    """Even where the digests have been made to agree."""
    lines = (copy / "docids.jsonl").read_text().splitlines()
    (copy / "docids.jsonl").write_text("\n".join([lines[1], lines[0], *lines[2:]]) + "\n")
    monkeypatch.setattr(
        bundle, "read_bundle", lambda folder: json.loads((folder / BUNDLE).read_text())
    )
    with pytest.raises(InputError) as error:
        load_bundle(copy, "", {})
    assert error.value.where == str(copy / "docids.jsonl")


def tables(folder):
    """(docid -> (tokens, product), prefix -> next) of the plain tables."""
    header, *lines = (folder / "ids.tsv").read_text().splitlines()
    assert header.split("\t") == ["docid", "tokens", "product"]
    rows = [line.split("\t") for line in lines]
    ids = {docid: ([int(t) for t in tokens.split()], product) for docid, tokens, product in rows}
    found = map(json.loads, (folder / "constraints.jsonl").read_text().splitlines())
    return ids, {tuple(node["prefix"]): node["next"] for node in found}


def test_the_plain_tables(made):
    folder = made["float32"][0]
    retriever = catid2_jax.load(folder)
    ids, following = tables(folder)
    first = retriever.retriever.model.decoder.first_id_token
    assert len(ids) == len(IDS)
    for product, codes in zip(IDS, retriever.table.codes.tolist(), strict=True):
        tokens = [first + level * K + code for level, code in enumerate(codes)]
        assert ids[format_docid(codes)] == (tokens, product)

    def walk(prefix):
        """All IDs that the constraints allow."""
        if len(prefix) == L:
            return [list(prefix)]
        return [whole for token in following[prefix] for whole in walk((*prefix, token))]

    assert sorted(walk(())) == sorted(tokens for tokens, _ in ids.values())


def test_the_plain_tables_of_unequal_ids(tmp_path):
    codes = np.array([[1, 0, 2], [1, -1, -1], [0, 3, -1], [0, 3, 1]])
    table = DocidTable(["p", "q", "r", "s"], codes, codebook_size=4)
    write_tables(tmp_path, table, CodeVocabulary(3, 4, 10))
    ids, following = tables(tmp_path)
    assert ids["<a_1>"] == ([11], "q")
    assert following == {
        (): [10, 11],
        (10,): [17],
        (11,): [0, 14],
        (10, 17): [0, 19],
        (11, 14): [20],
    }
    assert all(a <= b for a, b in itertools.pairwise(following[()]))
