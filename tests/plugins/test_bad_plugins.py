"""What is wrong with a plug-in is said in one clear line."""

import json
import pathlib
import shutil

import pytest

import catid2_jax
from catid2_jax import pipeline
from catid2_jax.config import freeze
from catid2_jax.errors import InputError
from catid2_jax.steps.chain import run_until
from catid2_jax.workdir import Workdir, has_begun
from tests.plugins import tiny

HERE = pathlib.Path(__file__).parent
BAD = "tests.plugins.bad"


@pytest.fixture
def prepared(tiny_workdir, tmp_path):
    """A function of the steps that are done already to a work directory with their results."""

    def make(*steps):
        for name in ("data", "embeddings.npy") if "embed" in steps else ("data",):
            copy = shutil.copytree if (tiny_workdir / name).is_dir() else shutil.copy
            copy(tiny_workdir / name, tmp_path / name)
        (tmp_path / "steps").mkdir()
        for step in steps:
            shutil.copy(tiny_workdir / "steps" / f"{step}.json", tmp_path / "steps")
        return tmp_path

    return make


def failure(root, last, system="bm25", **changes):
    """The error of a run up to a step."""
    config = tiny.get_config()
    config.systems = (system,)
    config.update_from_flattened_dict(changes)
    with pytest.raises(InputError) as error:
        run_until(freeze(config), Workdir(root), last)
    return error.value


@pytest.mark.parametrize(
    ("name", "where", "found", "expected"),
    [
        (
            "SchemeOfOneId",
            f"scheme {BAD}:SchemeOfOneId.codes",
            "<a_0><b_0><c_3> for products ",
            "one product per ID",
        ),
        (
            "SchemeOfTooFew",
            f"scheme {BAD}:SchemeOfTooFew",
            "53 document IDs",
            "one per product, 54",
        ),
        (
            "SchemeOfLargeCodes",
            f"scheme {BAD}:SchemeOfLargeCodes.codes",
            "code 4 at level 2 of product ",
            "0 to 3, or -1 after ",
        ),
        (
            "SchemeOfAnotherOrder",
            f"scheme {BAD}:SchemeOfAnotherOrder",
            "the ID of product '",
            "that of 'p0000000': the products in the catalogue's order",
        ),
        ("SchemeOfAnArray", f"scheme {BAD}:SchemeOfAnArray", "ndarray", "a DocidTable from fit"),
    ],
)
def test_scheme(prepared, name, where, found, expected):
    root = prepared("prepare", "embed")
    error = failure(root, "docids", f"{BAD}:{name}")
    assert error.where == where
    assert error.found.startswith(found)
    assert error.expected.startswith(expected)
    assert not (root / name / "docids.jsonl").exists()
    # Nothing was built, so that a mended scheme may take the place.
    assert not has_begun(root / name, "docids")


@pytest.mark.parametrize(
    ("name", "found", "expected"),
    [
        ("RetrieverOfOtherRows", "rows of 0 to 54", "-1 to 53"),
        ("RetrieverOfNegativeRows", "rows of -2 to 14", "-1 to 53"),
        ("RetrieverOfOneTwice", "a document twice for query 3", "each once"),
        ("RetrieverOfRisingScores", "scores that rise for query 0", "the best first"),
        ("RetrieverOfNan", "a score that is not finite for query 2", "numbers"),
        (
            "RetrieverOfTooFewQueries",
            "documents int64 (15, 15) and scores float64 (15, 15)",
            "integers and numbers, both of [16, at most 15]",
        ),
        (
            "RetrieverOfTooMany",
            "documents int64 (16, 16) and scores float64 (16, 16)",
            "integers and numbers, both of [16, at most 15]",
        ),
        (
            "RetrieverOfFloatRows",
            "documents float64 (16, 15) and scores float64 (16, 15)",
            "integers and numbers, both of [16, at most 15]",
        ),
        ("RetrieverOfOneProof", "proven ()", "[16], or None"),
        ("RetrieverOfATuple", "tuple", "a Ranking from search"),
    ],
)
def test_retriever(prepared, name, found, expected):
    root = prepared("prepare")
    error = failure(root, "evaluate", f"{BAD}:{name}")
    assert (error.where, error.found, error.expected) == (f"retriever {name}", found, expected)
    assert not (root / name / "run.trec").exists()


def test_retriever_that_ignores_filters(prepared):
    name = "RetrieverThatIgnoresFilters"
    root = prepared("prepare")
    config = tiny.get_config()
    config.systems = (f"{BAD}:{name}",)
    run_until(freeze(config), Workdir(root), "evaluate")
    retriever = catid2_jax.load(root, name)
    assert [hit.score for hit in retriever.search("tea", k=3)] == [3, 2, 1]
    denied = retriever.catalog.ids[1]
    with pytest.raises(InputError) as error:
        retriever.search("tea", k=3, deny_ids=[denied])
    assert error.value.where == f"retriever {name}"
    assert error.value.found == "row 1, which the filter excludes"
    assert len(retriever.search("tea", k=1, deny_ids=[denied])) == 1


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("EncoderOfNan", "NaN or infinity in the vector of '"),
        ("EncoderOfTooFew", "float32 (53, 4) for 54 texts"),
        ("EncoderOfIntegers", "int64 (54, 4) for 54 texts"),
        ("EncoderOfNothing", "object () for 54 texts"),
        ("EncoderWithoutItsBase", f"'{BAD}:EncoderWithoutItsBase' without encode_and_count"),
    ],
)
def test_encoder(prepared, name, found):
    root = prepared("prepare")
    error = failure(root, "embed", **{"embedding.encoder": f"{BAD}:{name}"})
    assert error.where == "encoder"
    assert error.found.startswith(found)
    assert not (root / "embeddings.npy").exists()


@pytest.mark.parametrize(
    ("system", "found"),
    [
        ("tests.plugins.broken:Scheme", "import fails with RuntimeError: the licence has expired"),
        ("tests.plugins.exits:Scheme", "import fails with SystemExit: 3"),
        ("tests.plugins.nowhere:Scheme", "import fails with ModuleNotFoundError: No module named"),
        (":Scheme", "import fails with ValueError: Empty module name"),
        (f"{BAD}:Nobody", f"no 'Nobody' in {BAD}"),
        (f"{BAD}:", f"no '' in {BAD}"),
        (f"{BAD}:A_NUMBER", f"'{BAD}:A_NUMBER', a int"),
        (f"{BAD}:Neither", f"'{BAD}:Neither', a type"),
        ("cat_id3", "'cat_id3'"),
        (f"{BAD}.SchemeOfOneId", f"'{BAD}.SchemeOfOneId'"),
    ],
)
def test_system_that_there_is_not(tmp_path, system, found):
    """It is said before any step runs."""
    error = failure(tmp_path, "evaluate", system)
    assert error.where == "config.systems"
    assert found in error.found
    assert "\n" not in str(error)
    assert list(tmp_path.iterdir()) == []


def test_two_systems_of_one_name(tmp_path):
    config = tiny.get_config()
    config.systems = ("bm25", "tests.plugins.other:bm25")
    with pytest.raises(InputError) as error:
        run_until(freeze(config), Workdir(tmp_path), "evaluate")
    assert error.value.where == "config.systems"


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [
        ("embedding.encoder", "word2vec", "config.embedding.encoder"),
        ("seq2seq.decoder", "t6", "config.seq2seq.decoder"),
    ],
)
def test_names_that_there_are_not(tmp_path, field, value, where):
    error = failure(tmp_path, "evaluate", "cat_id2", **{field: value})
    assert (error.where, error.found) == (where, repr(value))
    assert error.expected.endswith("or package.module:Name")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("system", "options", "where", "found"),
    [
        (
            "tests.plugins.my_scheme:MyScheme",
            {"MyScheme": {"branch": 3}},
            "config.options.MyScheme",
            "option 'branch' for MyScheme",
        ),
        (
            "tests.plugins.my_retriever:MyRetriever",
            {"MyRetriever": {"weight": 3}},
            "config.options.MyRetriever",
            "option 'weight' for MyRetriever",
        ),
        (
            f"{BAD}:SchemeThatNeedsAnOption",
            {},
            "config.options.SchemeThatNeedsAnOption",
            "no option 'branches' for SchemeThatNeedsAnOption",
        ),
        (
            "tests.plugins.my_scheme:MyScheme",
            {"MyScheem": {"branches": 3}},
            "config.options",
            "'MyScheem'",
        ),
    ],
)
def test_options_that_there_are_not(tmp_path, system, options, where, found):
    config = tiny.get_config()
    config.systems = (system,)
    config.options.update(options)
    with pytest.raises(InputError) as error:
        run_until(freeze(config), Workdir(tmp_path), "evaluate")
    assert (error.value.where, error.value.found) == (where, found)
    assert list(tmp_path.iterdir()) == []


def test_option_of_an_encoder_that_there_is_not(prepared):
    changes = {
        "embedding.encoder": "tests.plugins.my_encoder:MyEncoder",
        "embedding.options": {"width": 3},
    }
    config = tiny.get_config()
    config.systems = ("bm25",)
    for path, value in changes.items():
        section, _, name = path.partition(".")
        config[section][name] = value
    with pytest.raises(InputError) as error:
        run_until(freeze(config), Workdir(prepared("prepare")), "embed")
    assert error.value.found == "option 'width' for MyEncoder"
    assert error.value.expected == "some of dim, n"


def test_the_command_says_it_in_one_line(tiny_workdir, tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        pipeline.main(
            [
                "pipeline",
                f"--config={HERE / 'tiny.py'}",
                f"--workdir={tmp_path}",
                "--config.systems=('tests.plugins.broken:Scheme',)",
            ]
        )
    assert error.value.code == 2
    assert capsys.readouterr().err == (
        "error: config.systems: found 'tests.plugins.broken:Scheme', whose import fails with "
        "RuntimeError: the licence has expired, expected a module that imports\n"
    )


def test_the_tiny_run_is_what_these_tests_say_of_it(tiny_workdir):
    assert len(catid2_jax.load(tiny_workdir, "bm25").catalog) == 54
    lines = (tiny_workdir / "data" / "queries.test.jsonl").read_text().splitlines()
    assert len(lines) == 16
    assert json.loads((tiny_workdir / "metrics.json").read_text())["cat_id2/recall@5"] > 0.2
