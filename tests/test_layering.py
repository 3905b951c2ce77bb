"""Imports point strictly down, and what lies low knows nothing of what lies high: from the text."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

from catid2_jax.config_help import described_fields

PACKAGE = pathlib.Path(__file__).parent.parent / "catid2_jax"

LAYERS = (
    ("errors",),
    ("constraints", "rendezvous", "signals"),
    ("memory", "processes", "plugins", "resources"),
    ("files", "progress", "types"),
    ("lock", "ops", "records"),
    ("remote",),
    ("losses", "models", "data"),
    ("docids", "decoding"),
    ("evaluation",),
    ("training",),
    ("checkpoints",),
    ("encoders",),
    ("schemes", "seq2seq"),
    ("retrievers",),
    ("config", "ablations"),
    ("config_file", "config_help", "systems"),
    ("resolution",),
    ("workdir",),
    ("finished", "loading"),
    ("bundle",),
    ("steps",),
    ("reproduction",),
    ("api", "cli"),
    ("t5x",),
    ("reporting", "serving"),
    (
        "assign",
        "convert_checkpoint",
        "embed",
        "evaluate",
        "export",
        "import_data",
        "inspect",
        "pipeline",
        "prepare",
        "report",
        "reproduce",
        "retrieve",
        "serve",
        "train",
    ),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def name_of(path):
    return str(path.relative_to(PACKAGE))


def part(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path):
    """The modules of the package that a file imports, `catid2_jax.` left out."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            if node.module == "catid2_jax":
                yield from (alias.name for alias in node.names)
            elif (node.module or "").startswith("catid2_jax."):
                yield node.module.removeprefix("catid2_jax.")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("catid2_jax."):
                    yield alias.name.removeprefix("catid2_jax.")


def all_imports(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)


def test_every_part_has_its_layer():
    assert {part(path) for path in FILES} == set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_down(path):
    here = part(path)
    for module in imports(path):
        there = module.split(".")[0]
        assert here == there or LEVEL[there] < LEVEL[here], f"{here} imports {there}"


def test_no_module_imports_itself_through_others():
    """Within a part too."""
    graph = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): set(imports(path))
        for path in FILES
    }
    graph = {name: {there for there in found if there in graph} for name, found in graph.items()}
    while free := {name for name, found in graph.items() if not found}:
        graph = {name: found - free for name, found in graph.items() if name not in free}
    assert not graph


def test_tensorflow_is_imported_only_by_what_needs_it():
    heavy = {"tensorflow", "seqio", "tensorflow_datasets", "t5x", "gin"}
    users = {name_of(path) for path in FILES if heavy & set(all_imports(path))}
    names = ("catalog_folder", "esci", "examples", "parquet_shards")
    builders = {f"data/tfds/{name}.py" for name in names}
    assert users == {f"t5x/{n}.py" for n in ("seqio_tasks", "model", "vocabulary")} | builders


def test_config_dict_is_known_to_the_configuration_and_the_command_line_only():
    users = {part(path) for path in FILES if "ml_collections" in set(all_imports(path))}
    assert users == {"config", "config_file", "cli"}


def test_entry_points_are_short():
    for name in LAYERS[-1]:
        assert len((PACKAGE / f"{name}.py").read_text(encoding="utf-8").splitlines()) < 80


def test_importing_the_package_imports_nothing_else():
    """The names that it offers are there, and what they need comes when they are used."""
    code = """
import sys
import catid2_jax
names = dir(catid2_jax)
heavy = {"jax", "jaxlib", "numpy", "pyarrow", "flax", "sklearn", "tensorflow"} & set(sys.modules)
assert not heavy, heavy
from catid2_jax import Product
assert "pyarrow" not in sys.modules
for name in names:
    assert getattr(catid2_jax, name) is not None
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
print(len(names))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


SAY_FIELDS = {
    *(
        "ablations",
        "api",
        "cli",
        "config",
        "config_file",
        "config_help",
        "loading",
        "reproduction",
        "resolution",
        "steps",
        "systems",
    ),
    *("workdir", *LAYERS[-1]),
}
PATHS = sorted((path.removeprefix("config.") for path, *_ in described_fields()), key=len)
NESTED = "|".join(re.escape(path) for path in reversed(PATHS) if "." in path)
FIELD = re.compile(rf"(?<![\w.-])(config\.(?!json\b)(?=\w|$)|--[a-z]|({NESTED})\b)")


def texts(path):
    """(line, text) of what the code says, docstrings left out."""
    tree = tree_of(path)
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in documentation:
            yield node.lineno, node.value


def test_pure_code_names_no_field_of_the_configuration_and_no_flag():
    """The step that calls it knows which argument comes from where, and says it."""
    named = [
        f"{name_of(path)}:{line}: {text}"
        for path in FILES
        if part(path) not in SAY_FIELDS and path.name != "__main__.py"
        for line, text in texts(path)
        if FIELD.search(text)
    ]
    assert named == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("config.retrieve.k is 0", True),
        ("give another --workdir", True),
        ("(config.data)", True),
        ("config.", True),
        ("beside docids.previous", True),
        ("with t5.memory_tokens = 4", True),
        ("config.json", False),
        ("tokenizer_config.json", False),
        ("generation_config.json", False),
        ("a -- b", False),
    ],
)
def test_what_names_a_field(text, names):
    assert bool(FIELD.search(text)) == names
