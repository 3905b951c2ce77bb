"""The matrix of the workflow is that of noxfile.py, and both are what setup.py supports."""

import ast
import pathlib
import re

import pytest

yaml = pytest.importorskip("yaml")
ROOT = pathlib.Path(__file__).parents[2]
SETUP = (ROOT / "setup.py").read_text(encoding="utf-8")
NOX = (ROOT / "noxfile.py").read_text(encoding="utf-8")


@pytest.fixture
def jobs():
    return yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]


def test_every_supported_python_with_the_oldest_and_the_newest_jax(jobs):
    matrix = jobs["tests"]["strategy"]["matrix"]
    supported = re.findall(r"Programming Language :: Python :: (3\.\d+)", SETUP)
    assert matrix == {"python": supported, "jax": ["oldest", "newest"]}
    found = re.search(r"^PYTHONS = (.*)$", NOX, re.MULTILINE)
    assert ast.literal_eval(found[1]) == tuple(supported)
    assert supported[0] == re.search(r'python_requires=">=(3\.\d+)"', SETUP)[1]


def test_the_oldest_versions_are_read_from_setup_py():
    for name in ("jax", "flax"):
        lower = re.search(rf'"{name}>=([\d.]+)"', SETUP)
        assert lower
        assert lower[1].count(".") == 1  # a pin of the same minor version, with `.*` behind it


def test_the_steps_install_and_run_nox(jobs):
    lines = [step.get("run", "") for job in jobs.values() for step in job["steps"]]
    assert "nox -s lint" in lines
    assert "nox -s \"tests-${{ matrix.python }}(jax='${{ matrix.jax }}')\"" in lines
    assert "nox -s audit licenses" in lines
    assert "nox -s gpu_script" in lines
    for session in ("lint", "tests", "gpu_script", "audit", "licenses", "lock"):
        assert f"def {session}(session" in NOX
    for check in ("ruff", "mypy", "pytest"):
        assert f'"{check}"' in NOX


def test_the_workflow_is_yaml_in_good_order():
    pytest.importorskip("yamllint")
    from yamllint import linter
    from yamllint.config import YamlLintConfig

    rules = (
        "extends: default\nrules: {document-start: disable, truthy: {check-keys: false}, "
        "line-length: {max: 100}}\n"
    )
    text = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    assert list(linter.run(text, YamlLintConfig(rules))) == []
