"""requirements.lock has what setup.py asks for, once per environment, and every file's hash."""

import ast
import pathlib
import re
import runpy

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
NOX = (ROOT / "noxfile.py").read_text(encoding="utf-8")
LOCKED = ast.literal_eval(re.search(r"^LOCKED = (.*)$", NOX, re.MULTILINE)[1])
PYTHONS = ast.literal_eval(re.search(r"^PYTHONS = (.*)$", NOX, re.MULTILINE)[1])
SYSTEMS = ("linux", "darwin")

PINS = [
    (Requirement(pin.partition("\\")[0].strip()), re.findall(r"--hash=sha256:([0-9a-f]{64})", pin))
    for pin in re.split(r"\n(?=[a-z])", re.sub(r"^ *#.*\n", "", LOCK, flags=re.MULTILINE))
    if pin.strip()
]


@pytest.fixture
def setup(monkeypatch):
    """What setup.py gives to setuptools."""
    given = {}
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
    runpy.run_path("setup.py")
    return given


def locked(python, system):
    """Name -> version of each package that is installed there."""
    here = {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": system,
        "platform_system": system.title(),
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "extra": "",
    }
    pins = [pin for pin, _ in PINS if pin.marker is None or pin.marker.evaluate(here)]
    names = [canonicalize_name(pin.name) for pin in pins]
    assert len(set(names)) == len(names)
    versions = [re.fullmatch(r"==([\w.+]+)", str(pin.specifier))[1] for pin in pins]
    return dict(zip(names, versions, strict=True))


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_is_met_by_one_version(setup, python, system):
    wanted = [*setup["install_requires"]]
    for extra in LOCKED:
        wanted += setup["extras_require"][extra]
    versions = locked(python, system)
    for requirement in map(Requirement, wanted):
        version = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), (str(requirement), version)


def test_every_pin_has_hashes():
    assert len(PINS) > 50
    assert [pin.name for pin, hashes in PINS if not hashes] == []


def test_what_needs_torch_or_tensorflow_is_not_locked():
    names = {canonicalize_name(pin.name) for pin, _ in PINS}
    assert names.isdisjoint({"torch", "tensorflow", "pytest", "catid2-jax"})
