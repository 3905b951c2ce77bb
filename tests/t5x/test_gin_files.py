"""The gin files compose, whatever the size, and say what T5's papers say.

Gin alone is needed: in the place of T5X's Python stand modules in which everything can be
configured. Its gin files are T5X's own where it is installed; elsewhere those of the sizes are made
from the table below, so that it is seen which of them is taken.
"""

import importlib.util
import pathlib
import runpy
import sys
import types

import pytest

from catid2_jax.errors import InputError
from catid2_jax.t5x import __main__ as launcher
from catid2_jax.t5x import recorded
from catid2_jax.workdir import Record, record_path, write_record

gin = pytest.importorskip("gin")
if not hasattr(gin, "parse_config_files_and_bindings"):  # the folder of that name
    pytest.skip("no gin-config", allow_module_level=True)

ROOT = pathlib.Path(__file__).parents[2]
MODELS = ROOT / "gin" / "models"

FIELDS = ("emb_dim", "num_heads", "num_encoder_layers", "head_dim", "mlp_dim", "vocab_size")
SIZES = {  # Hugging Face's config.json: d_model, num_heads, num_layers, d_kv, d_ff, vocab_size
    "t5_1_0_small": (512, 8, 6, 64, 2048, 32128),
    "t5_1_0_base": (768, 12, 12, 64, 3072, 32128),
    "t5_1_0_large": (1024, 16, 24, 64, 4096, 32128),
    "t5_1_0_3B": (1024, 32, 24, 128, 16384, 32128),
    "t5_1_0_11B": (1024, 128, 24, 128, 65536, 32128),
    "t5_1_1_small": (512, 6, 8, 64, 1024, 32128),
    "t5_1_1_base": (768, 12, 12, 64, 2048, 32128),
    "t5_1_1_large": (1024, 16, 24, 64, 2816, 32128),
    "t5_1_1_xl": (2048, 32, 24, 64, 5120, 32128),
    "t5_1_1_xxl": (4096, 64, 24, 64, 10240, 32128),
    "mt5_small": (512, 6, 8, 64, 1024, 250112),
    "mt5_base": (768, 12, 12, 64, 2048, 250112),
    "mt5_large": (1024, 16, 24, 64, 2816, 250112),
    "mt5_xl": (2048, 32, 24, 64, 5120, 250112),
    "mt5_xxl": (4096, 64, 24, 64, 10240, 250112),
}

NETWORK = """
from __gin__ import dynamic_registration
from t5x.examples.{examples} import network
OPTIMIZER = None
Z_LOSS = 0.0001
LABEL_SMOOTHING = 0.0
LOSS_NORMALIZING_FACTOR = None
network.Transformer.config = @network.T5Config()
network.T5Config:
"""
RUN = """
from __gin__ import dynamic_registration
from t5x import utils
{macros}
utils.RestoreCheckpointConfig.path = %{path}
"""
MACROS = {
    "finetune": ["TRAIN_STEPS", "TRAIN_STEPS_RELATIVE", "INITIAL_CHECKPOINT_PATH"],
    "infer": ["CHECKPOINT_PATH"],
    "eval": ["CHECKPOINT_PATH"],
}


FOUND = importlib.util.find_spec("t5x")
REAL = pathlib.Path(FOUND.origin).parents[1] if FOUND and FOUND.origin else None
"""The folder in which T5X is installed, if it is."""


@pytest.fixture(scope="session")
def gin_root(tmp_path_factory):
    """The folder in which gin finds t5x/..."""
    if REAL:
        return REAL
    root = tmp_path_factory.mktemp("t5x")
    for examples in ("t5", "scalable_t5"):
        for name, numbers in SIZES.items():
            family, _, size = name.rpartition("_")
            path = root / "t5x" / "examples" / examples / family / f"{size}.gin"
            path.parent.mkdir(parents=True, exist_ok=True)
            fields = "".join(f"  {f} = {n}\n" for f, n in zip(FIELDS, numbers, strict=True))
            path.write_text(NETWORK.format(examples=examples) + fields)
    (root / "t5x/examples/t5/t5_1_1/tiny.gin").write_text(NETWORK.format(examples="t5") + "  x = 1")
    runs = root / "t5x" / "configs" / "runs"
    runs.mkdir(parents=True)
    for name, macros in MACROS.items():
        text = RUN.format(macros="\n".join(f"{m} = 0" for m in macros), path=macros[-1])
        (runs / f"{name}.gin").write_text(text)
    return root


def stand_in(name):
    """A module whose every attribute is a function of any arguments, which returns these."""
    module = types.ModuleType(name)

    def attribute(wanted):
        if wanted.startswith("__"):
            raise AttributeError(wanted)

        def configurable(**values):
            return values

        configurable.__name__ = configurable.__qualname__ = wanted
        configurable.__module__ = name
        setattr(module, wanted, configurable)
        return configurable

    module.__getattr__ = attribute
    module.__path__ = []
    return module


STANDING = [
    *("seqio", "t5x", "t5x.models", "t5x.utils", "t5x.trainer", "t5x.partitioning"),
    *("t5x.gin_utils", "t5x.adafactor", "t5x.examples", "t5x.examples.t5"),
    *("t5x.examples.t5.network", "t5x.examples.scalable_t5"),
    *("t5x.examples.scalable_t5.network", "catid2_jax.t5x.tasks", "catid2_jax.t5x.model"),
    "__main__",
]


MODULES = {name: stand_in(name) for name in STANDING}  # gin knows them for good


@pytest.fixture
def compose(gin_root, monkeypatch, tmp_path):
    """A function of gin files and bindings that parses them, in another folder than theirs."""
    for name, module in MODULES.items():
        parent, _, last = name.rpartition(".")
        monkeypatch.setitem(sys.modules, name, module)
        if parent in MODULES:
            setattr(MODULES[parent], last, module)
    for last in ("tasks", "model"):
        package = sys.modules["catid2_jax.t5x"]
        monkeypatch.setattr(package, last, MODULES[f"catid2_jax.t5x.{last}"], raising=False)
    monkeypatch.chdir(tmp_path)
    gin.clear_config(clear_constants=True)
    # As --gin_search_paths and T5X's own.
    for place in (*launcher.with_search_path([])[0].partition("=")[2].split(","), gin_root):
        gin.add_config_file_search_path(str(place))

    def parse(*files, **bindings):
        values = {"WORKDIR": str(tmp_path), "DROPOUT_RATE": 0.1} | bindings
        lines = [f"{name} = {value!r}" for name, value in values.items()]
        gin.parse_config_files_and_bindings(list(files), lines)

    yield parse
    gin.clear_config(clear_constants=True)


def made(reference):
    """What a reference such as '@x.f()' gives under the current configuration."""
    with gin.unlock_config():
        gin.parse_config(f"made/gin.macro.value = {reference}")
    return gin.query_parameter("made/gin.macro.value").scoped_configurable_fn()


def shape():
    return made("@t5x.examples.t5.network.T5Config()")


@pytest.mark.parametrize("name", SIZES)
def test_every_size(compose, name):
    path = MODELS / f"{name}.gin"
    assert len(path.read_text().splitlines()) == 2
    compose(f"gin/models/{name}.gin", "gin/runs/scratch.gin", MODEL_DIR="m")
    found = shape()
    family, _, _ = name.rpartition("_")
    # Rows are those of the vocabulary with the ID tokens.
    expected = dict(zip(FIELDS, SIZES[name], strict=True)) | {"vocab_size": found["vocab_size"]}
    assert {field: found[field] for field in FIELDS} == expected
    assert gin.query_parameter("EXTRA_IDS/gin.macro.value") == (0 if family == "mt5" else 100)
    if REAL:
        assert found["num_decoder_layers"] == found["num_encoder_layers"]
        tied = family == "t5_1_0"
        assert found["logits_via_embedding"] == tied
        assert found["mlp_activations"] == (("relu",) if tied else ("gelu", "linear"))


def test_there_are_no_other_models():
    others = {"retrieval", "mt5", "tiny", "native"}
    assert {path.stem for path in MODELS.glob("*.gin")} == {*SIZES, *others}


@pytest.mark.parametrize("run", ["scratch", "finetune", "infer", "eval"])
def test_every_run(compose, run):
    places = {"MODEL_DIR": "m", "INFER_OUTPUT_DIR": "i", "EVAL_OUTPUT_DIR": "e"}
    if run == "finetune":
        places["INITIAL_CHECKPOINT_PATH"] = "c"
    if run in ("infer", "eval"):
        places["CHECKPOINT_PATH"] = "c"
    compose("gin/models/tiny.gin", f"gin/runs/{run}.gin", **places)
    restore = made("@t5x.utils.RestoreCheckpointConfig()")
    assert restore["path"] == ([] if run == "scratch" else "c")
    if run == "scratch":
        steps = gin.query_parameter("TRAIN_STEPS/gin.macro.value")
        assert str(steps) == "%STEPS"
        assert gin.query_parameter("TRAIN_STEPS_RELATIVE/gin.macro.value") is None


def record(workdir, config=None):
    folder = workdir / "tiger"
    write_record(record_path(workdir, "prepare"), Record({}, done=True))
    write_record(record_path(folder, "docids"), Record({}, "tiger", True, 1.0, {"levels": 4}))
    if config:
        write_record(record_path(folder, "train_seq2seq"), Record(config, "tiger", True))


TRAINED = {
    "t5": {
        "emb_dim": 48,
        "num_heads": 3,
        "num_encoder_layers": 2,
        "num_decoder_layers": 5,
        "head_dim": 16,
        "mlp_dim": 96,
        "mlp_activations": ["gelu", "linear"],
        "logits_via_embedding": False,
        "memory_tokens": 0,
    },
    "seq2seq": {
        "decoder": "t5",
        "pretrained_encoder": "",
        "source_tokens": 16,
        "objective": {"normalize_over": "level"},
    },
}


INFER = {"CHECKPOINT_PATH": "c", "INFER_OUTPUT_DIR": "i"}


def test_the_network_of_the_work_directory(compose, tmp_path):
    record(tmp_path, TRAINED)
    compose("gin/models/native.gin", "gin/runs/infer.gin", **INFER)
    found = shape()
    numbers = {name: value for name, value in TRAINED["t5"].items() if name != "memory_tokens"}
    expected = numbers | {"mlp_activations": ("gelu", "linear"), "dtype": "float32"}
    assert {name: found[name] for name in expected} == expected
    model = made("@catid2_jax.t5x.model.RetrievalModel()")
    assert model["normalize_over"] == "level"
    lengths = made("@catid2_jax.t5x.tasks.feature_lengths()")
    assert lengths["source_tokens"] == 16


def test_source_tokens_of_the_record_are_those_of_every_model(compose, tmp_path):
    record(tmp_path, TRAINED)
    compose("gin/models/t5_1_1_base.gin", "gin/runs/infer.gin", **INFER)
    assert made("@catid2_jax.t5x.tasks.feature_lengths()")["source_tokens"] == 16
    assert made("@catid2_jax.t5x.model.RetrievalModel()")["normalize_over"] == "full"


def test_what_is_said_goes_before_the_record(compose, tmp_path):
    record(tmp_path, TRAINED)
    compose("gin/models/native.gin", "gin/runs/infer.gin", **INFER, SOURCE_TOKENS=9)
    assert made("@catid2_jax.t5x.tasks.feature_lengths()")["source_tokens"] == 9


def test_a_work_directory_without_stage_2(tmp_path):
    record(tmp_path)
    assert recorded.source_tokens(str(tmp_path)) == 32
    assert recorded.normalize_over(str(tmp_path)) == "full"
    with pytest.raises(InputError, match="no step train_seq2seq"):
        recorded.t5(str(tmp_path), "emb_dim")


@pytest.mark.parametrize(
    ("section", "changes"),
    [
        ("t5", {"memory_tokens": 2}),
        ("seq2seq", {"decoder": "pawa"}),
        ("seq2seq", {"pretrained_encoder": "minilm"}),
    ],
)
def test_a_network_that_t5x_does_not_have(tmp_path, section, changes):
    record(tmp_path, TRAINED | {section: TRAINED[section] | changes})
    with pytest.raises(InputError, match="a T5 that reads text"):
        recorded.t5(str(tmp_path), "emb_dim")


def test_a_bucket_is_no_work_directory():
    with pytest.raises(InputError, match="a local path"):
        recorded.source_tokens("gs://bucket/run")


@pytest.mark.parametrize("examples", ["t5", "scalable_t5"])
def test_what_tells_a_scalable_model(compose, examples):
    """`model.refuse_scalable` looks for it in this text."""
    compose(f"t5x/examples/{examples}/t5_1_1/base.gin", "gin/models/retrieval.gin")
    assert ("scalable_t5" in gin.config_str()) == (examples == "scalable_t5")


@pytest.mark.parametrize("given", [[], ["--gin_search_paths=a,b"]])
def test_the_script_is_run_with_the_package_s_gin_files(monkeypatch, given):
    seen = {}

    def run(module, run_name, alter_sys):
        seen.update(module=module, run_name=run_name, alter_sys=alter_sys, argv=sys.argv)

    monkeypatch.setattr(runpy, "run_module", run)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(sys, "argv", ["x"])
    launcher.main(["x", "train", "--gin.A=1", *given])
    before = "a,b," if given else ""
    assert seen == {
        "module": "t5x.train",
        "run_name": "__main__",
        "alter_sys": True,
        "argv": ["t5x.train", f"--gin_search_paths={before}{ROOT}", "--gin.A=1"],
    }


def test_one_of_several_processes_joins_before_the_script_runs(monkeypatch):
    seen = []
    monkeypatch.setattr(
        runpy, "run_module", lambda module, **_: seen.append((module, sys.argv[2:]))
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(sys, "argv", ["x"])
    monkeypatch.setattr(launcher, "join", seen.append)
    launcher.main(["x", "infer", "--gin.A=1", "--distributed"])
    assert seen == [{"the script": "infer"}, ("t5x.infer", ["--gin.A=1"])]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "error: catid2_jax.t5x: found no script, expected one of train, infer, eval\n"),
        (["trian"], "error: catid2_jax.t5x: found the script 'trian', expected one of train, "),
    ],
)
def test_no_such_script(words, expected, capsys):
    with pytest.raises(SystemExit) as error:
        launcher.main(["x", *words])
    assert error.value.code == 2
    assert capsys.readouterr().err.startswith(expected)


@pytest.mark.skipif(REAL is not None, reason="T5X is installed")
def test_without_t5x(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(SystemExit) as error:
        launcher.main(["x", "train"])
    assert error.value.code == 2
    assert "found no package t5x, expected it: see docs/t5x.md" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("--gin.MODEL_DIR='runs/t5x'", "--gin.MODEL_DIR='/here/runs/t5x'"),
        ('--gin.INITIAL_CHECKPOINT_PATH="a b/c"', '--gin.INITIAL_CHECKPOINT_PATH="/here/a b/c"'),
        ("--gin.EVAL_OUTPUT_DIR='../x'", "--gin.EVAL_OUTPUT_DIR='/x'"),
        ("--gin.WORKDIR='/there/run'", "--gin.WORKDIR='/there/run'"),
        ("--gin.MODEL_DIR='gs://bucket/run'", "--gin.MODEL_DIR='gs://bucket/run'"),
        ("--gin.SYSTEM='cat_id2'", "--gin.SYSTEM='cat_id2'"),
        ("--gin.INITIAL_CHECKPOINT_PATH=[]", "--gin.INITIAL_CHECKPOINT_PATH=[]"),
        ("--gin_file=gin/runs/scratch.gin", "--gin_file=gin/runs/scratch.gin"),
    ],
)
def test_a_place_is_named_from_the_root_on(word, expected, monkeypatch):
    monkeypatch.setattr(launcher.os, "getcwd", lambda: "/here")
    assert launcher.with_whole_path(word) == expected
