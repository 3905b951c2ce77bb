"""Imports point strictly down, read from the source text."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "catid2_jax"

LAYERS = (
    ("errors",),
    ("processes",),
    ("files", "progress", "types"),
    ("ops",),
    ("losses", "models", "data"),
    ("embedding", "docids", "decoding"),
    ("analysis", "baselines", "evaluation"),
    ("training",),
    ("checkpoints",),
    ("config",),
    ("presets",),
    ("steps",),
    ("cli", "t5x"),
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
        "retrieve",
        "train",
    ),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def part(path):
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imports(path):
    """The parts of the package that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("catid2_jax"):
            names = node.module.split(".")[1:]
            yield from names[:1] or [alias.name for alias in node.names]
            assert node.level == 0
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("catid2_jax."):
                    yield alias.name.split(".")[1]


def all_imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    here = part(path)
    for there in imports(path):
        assert here == there or LEVEL[there] < LEVEL[here], f"{here} imports {there}"


def test_tensorflow_is_imported_only_by_what_needs_it():
    heavy = {"tensorflow", "seqio", "tensorflow_datasets", "t5x", "gin"}
    users = {str(p.relative_to(PACKAGE)) for p in FILES if heavy & set(all_imports(p))}
    builders = {f"data/tfds/{name}.py" for name in ("catalog_folder", "esci", "examples")}
    assert users == {"data/seqio_tasks.py", "t5x/model.py", "t5x/vocabulary.py"} | builders


def test_config_dict_is_known_to_the_configuration_and_the_command_line_only():
    users = {part(p) for p in FILES if "ml_collections" in set(all_imports(p))}
    assert users == {"config", "presets", "cli"}


def test_entry_points_are_short():
    for name in LAYERS[-1]:
        assert len((PACKAGE / f"{name}.py").read_text(encoding="utf-8").splitlines()) < 80
