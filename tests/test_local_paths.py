"""URLs in the place of paths: refused at once, and no folder named `gs:` is made."""

import pathlib

import pytest

import catid2_jax
from catid2_jax import cli, convert_checkpoint, import_data, pipeline, report, reproduce, serve
from catid2_jax.config import Config, default_config, field_paths, freeze
from catid2_jax.constraints import LocalPath, check_local, field_hints
from catid2_jax.data.sources.registry import SOURCES
from catid2_jax.errors import InputError

URL = "gs://bucket/run"
EXPECTED = f"found {URL!r}, expected a local path, not a URL"
OTHER = "az://bucket/run"
OTHER_EXPECTED = f"found {OTHER!r}, expected a local path, gs://BUCKET/PATH or s3://BUCKET/PATH"

FIELDS = {
    "embedding": (
        "path",
        "vocabulary",
        "train_query_vectors",
        "dev_query_vectors",
        "test_query_vectors",
    ),
    "docids": ("path", "previous"),
    "seq2seq": ("continue_from", "pretrained", "pretrained_encoder", "vocabulary"),
    "retrieve": (
        "queries",
        "query_vectors",
        *(f"{kind}_{what}" for what in ("ids", "categories") for kind in ("allow", "deny")),
    ),
}
PATHS = [f"config.{section}.{name}" for section, names in FIELDS.items() for name in names]


def set_field(config, path, value):
    _, section, name = path.split(".")
    config[section][name] = value


@pytest.mark.parametrize("path", PATHS)
def test_a_field(path):
    config = default_config()
    set_field(config, path, URL)
    with pytest.raises(InputError) as error:
        freeze(config)
    assert str(error.value) == f"{path}: {EXPECTED}"


def test_every_field_that_is_a_path_is_listed():
    hints = {}
    for path in field_paths():
        _, *names = path.split(".")
        section = Config
        for name in names[:-1]:
            section = field_hints(section)[name]
        hints[path] = field_hints(section)[names[-1]]
    assert {path for path, hint in hints.items() if hint == LocalPath} == set(PATHS)


OF_SOURCES = {
    "esci": {"products", "examples", "metadata"},
    "wands": {"path"},
    "amazon_reviews": {"path", "judgements"},
    "huggingface": {"dataset", "judgements"},
    "csv": {"path", "judgements"},
    "parquet": {"path", "judgements"},
    "sql": {"database", "judgements"},
    "shopify": {"path", "judgements"},
    "woocommerce": {"path", "judgements"},
    "google_merchant": {"path", "judgements", "taxonomy"},
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_field_of_a_source_that_is_a_path_is_listed(source):
    hints = field_hints(SOURCES[source][0])
    assert {name for name, hint in hints.items() if hint == LocalPath} == OF_SOURCES[source]


SOURCE = ["csv", "--path=shop.csv", "--output=out"]
CONVERSION = ["--from=a", "--to=b", "--format=t5x"]


@pytest.mark.parametrize(
    ("main", "words", "flag"),
    [
        (pipeline.main, [], "config"),
        (convert_checkpoint.main, CONVERSION, "vocabulary"),
        (convert_checkpoint.main, [*CONVERSION, "--init=codebooks"], "codebooks"),
        *((import_data.main, SOURCE, flag) for flag in ("path", "judgements")),
        (reproduce.main, ["table2"], "data"),
        (serve.main, ["--workdir=x"], "versions"),
        (serve.main, ["--workdir=x"], "state"),
    ],
)
def test_a_flag(main, words, flag, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        main(["catid2", *words, f"--{flag}={URL}"])
    assert error.value.code == 2
    shown = capsys.readouterr()
    assert shown.err == f"error: --{flag}: {EXPECTED}\n"
    assert not list(tmp_path.iterdir())


PLACES = [
    (pipeline.main, ["--config=quickstart"], "workdir"),
    *((convert_checkpoint.main, CONVERSION, flag) for flag in ("from", "to")),
    (import_data.main, SOURCE, "output"),
    (reproduce.main, ["table2"], "output"),
    (report.main, [], "workdir"),
    (serve.main, [], "workdir"),
]


@pytest.mark.parametrize(("main", "words", "flag"), PLACES)
@pytest.mark.parametrize("url", [OTHER, "gs:/bucket/run", "s3://", "s3:///run"])
def test_a_flag_that_takes_buckets(main, words, flag, url, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        main(["catid2", *words, f"--{flag}={url}"])
    assert error.value.code == 2
    expected = OTHER_EXPECTED.replace(OTHER, url)
    assert capsys.readouterr().err == f"error: --{flag}: {expected}\n"
    assert not list(tmp_path.iterdir())


def test_the_url_is_refused_before_other_processes_are_waited_for(capsys, monkeypatch):
    monkeypatch.setattr(cli, "_join", lambda _: pytest.fail("joined"))
    with pytest.raises(SystemExit):
        pipeline.main(["catid2", "--config=quickstart", "--distributed", f"--workdir={OTHER}"])
    assert OTHER_EXPECTED in capsys.readouterr().err


@pytest.mark.parametrize(
    ("function", "url", "message"),
    [
        (catid2_jax.load, OTHER, f"workdir: {OTHER_EXPECTED}"),
        (catid2_jax.read_catalog, URL, f"path: {EXPECTED}"),
    ],
)
def test_from_python(function, url, message):
    with pytest.raises(InputError) as error:
        function(url)
    assert str(error.value) == message


@pytest.mark.parametrize("path", ["a/b", "/a", "C:/a", "a:b", "runs/gs:/x", "", "./gs://x"])
def test_what_is_a_local_path(path):
    assert str(check_local(path, "x")) == str(pathlib.Path(path))


@pytest.mark.parametrize("path", ["s3://b", "file:///a", "GS://b", "az+x.y-z://b", "hdfs:/b"])
def test_what_is_none(path):
    with pytest.raises(InputError):
        check_local(path, "x")
