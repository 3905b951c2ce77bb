"""The checks of every supported Python and JAX on this machine: `pip install nox`, then `nox`.

    nox -s "tests-3.12(jax='newest')" -- tests/ops

.github/workflows/ci.yml runs the same. Interpreters that are not there are left out.
"""

import pathlib
import re

import nox

PYTHONS = ("3.11", "3.12", "3.13")
SETUP = pathlib.Path(__file__).with_name("setup.py").read_text(encoding="utf-8")
OLDEST = {name: re.search(rf'"{name}>=([\d.]+)"', SETUP)[1] for name in ("jax", "flax")}
"""The oldest versions that setup.py allows."""

nox.options.sessions = ["lint", "tests"]
nox.options.error_on_missing_interpreters = False


@nox.session(python=PYTHONS[0])
def lint(session: nox.Session) -> None:
    """Style and types."""
    session.install("-e", ".[test]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session(python=PYTHONS)
@nox.parametrize("jax", ["oldest", "newest"])
def tests(session: nox.Session, jax: str) -> None:
    """The tests, with the oldest JAX and Flax that are supported or the newest."""
    pins = [f"{name}=={version}.*" for name, version in OLDEST.items()] if jax == "oldest" else []
    session.install("-e", ".[test]", *pins)
    session.run("python", "-m", "pytest", *session.posargs)
