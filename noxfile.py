"""The checks of every supported Python and JAX on this machine: `pip install nox`, then `nox`.

    nox -s "tests-3.12(jax='newest')" -- tests/ops
    nox -s lock    # writes requirements.lock anew, with the newest versions that setup.py allows
    nox -s audit licenses

.github/workflows/ci.yml runs the same. Interpreters that are not there are left out.
"""

import pathlib
import re

import nox

PYTHONS = ("3.11", "3.12", "3.13")
SETUP = pathlib.Path(__file__).with_name("setup.py").read_text(encoding="utf-8")
OLDEST = {name: re.search(rf'"{name}>=([\d.]+)"', SETUP)[1] for name in ("jax", "flax")}
"""The oldest versions that setup.py allows."""

LOCK = "requirements.lock"
LOCKED = ("bert", "data", "inspect", "report", "serve")
"""The extras that are locked: those of a whole run, its report and a service."""
COPYLEFT = ("GPL", "General Public License", "EUPL", "OSL", "SSPL", "UNKNOWN")
"""What the license of a locked package must not have in its name. tqdm's MPL 2.0 is for its own
files alone."""

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


@nox.session(python=PYTHONS[0])
def gpu_script(session: nox.Session) -> None:
    """All of benchmarks/gpu.sh in tiny sizes on a CPU, with the peers that it measures."""
    session.install("-e", ".[test,oracles]")
    session.run("python", "-m", "pytest", "-n", "0", "-m", "slow", "tests/test_gpu_script.py")


@nox.session(python=PYTHONS[0])
def lock(session: nox.Session) -> None:
    """Writes requirements.lock, for every supported Python and system, with hashes."""
    session.install("uv")
    extras = [word for extra in LOCKED for word in ("--extra", extra)]
    session.run(
        *("uv", "pip", "compile", "setup.py", *extras, "--universal", "--generate-hashes"),
        *("--python-version", PYTHONS[0], "--upgrade", "--output-file", LOCK),
        env={"UV_CUSTOM_COMPILE_COMMAND": "nox -s lock"},
    )


@nox.session(python=PYTHONS[0])
def audit(session: nox.Session) -> None:
    """No locked package has a known vulnerability; one that is not known fails, too."""
    session.install("pip-audit")
    session.run("pip-audit", "--strict", "--disable-pip", "--require-hashes", "-r", LOCK)


@nox.session(python=PYTHONS[0])
def licenses(session: nox.Session) -> None:
    """The lock installs, the command starts from it, and no package of it is under copyleft."""
    session.install("--require-hashes", "--no-deps", "-r", LOCK)
    session.install("--no-deps", ".")
    session.run("catid2", "--help", silent=True)
    session.run("pip", "check")
    session.install("pip-licenses")
    session.run("pip-licenses", "--partial-match", "--fail-on", ";".join(COPYLEFT))
