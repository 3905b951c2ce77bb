import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

pytestmark = pytest.mark.slow

FIND = "from catid2_jax.resources import *; print(config_path('paper/table2'), packaged('gin'))"


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_wheel_has_every_file_of_the_package(checkout, wheel):
    expected = {f"catid2_jax/{name}" for name in files(checkout / "catid2_jax")}
    for folder in ("configs", "gin"):
        expected |= {f"catid2_jax/{folder}/{name}" for name in files(checkout / folder)}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert {name for name in names if ".dist-info/" not in name} == expected
        (entry_points,) = (name for name in names if name.endswith("/entry_points.txt"))
        assert b"catid2 = catid2_jax.cli:console" in archive.read(entry_points)
        (license_file,) = (name for name in names if name.endswith("/LICENSE"))
        assert archive.read(license_file) == (checkout / "LICENSE").read_bytes()


def test_a_source_distribution_builds_the_same_wheel(checkout, wheel, tmp_path):
    build = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    python = (sys.executable, "-c", build, tmp_path)
    subprocess.run(python, cwd=checkout, check=True, capture_output=True)
    (source,) = tmp_path.iterdir()
    assert source.name.endswith(".tar.gz")
    made = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path / "w", source)
    subprocess.run(made, check=True)
    (again,) = (tmp_path / "w").iterdir()
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert again.name == wheel.name
        assert {i.filename: i.CRC for i in other.infolist()} == {
            i.filename: i.CRC for i in one.infolist()
        }


def test_a_wheel_finds_its_folders(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    run = subprocess.run(
        (sys.executable, "-c", FIND),
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    package = tmp_path / "catid2_jax"
    assert run.stdout.split() == [str(package / "configs/paper/table2.py"), str(package / "gin")]


def test_an_editable_install_finds_the_checkouts(checkout, tmp_path):
    subprocess.run((sys.executable, "-m", "venv", tmp_path), check=True)
    python = tmp_path / "bin" / "python"
    install = (python, "-m", "pip", "install", "-q", "--no-deps", "-e", checkout)
    subprocess.run(install, check=True)
    run = subprocess.run((python, "-c", FIND), cwd="/", capture_output=True, text=True, check=True)
    assert run.stdout.split() == [str(checkout / "configs/paper/table2.py"), str(checkout / "gin")]
    assert not (pathlib.Path(checkout) / "catid2_jax" / "configs").exists()
