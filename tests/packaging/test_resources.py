import pathlib

import pytest

from catid2_jax import resources
from catid2_jax.errors import InputError
from catid2_jax.resources import config_path, packaged

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A folder with a package in it that takes itself for this one."""
    package = tmp_path / "site-packages" / "catid2_jax"
    package.mkdir(parents=True)
    monkeypatch.setattr(resources, "__file__", str(package / "resources.py"))
    return package


@pytest.mark.parametrize("name", ["quickstart", "quickstart.py"])
def test_a_configuration_is_found_by_its_name(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert config_path(name) == ROOT / "configs" / "quickstart.py"


def test_a_configuration_in_a_folder_is_found_by_its_name():
    assert config_path("paper/table2") == ROOT / "configs" / "paper" / "table2.py"


def test_a_file_comes_before_a_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("quickstart.py").touch()
    assert config_path("quickstart.py") == pathlib.Path("quickstart.py")
    assert config_path(str(tmp_path / "quickstart.py")) == tmp_path / "quickstart.py"


@pytest.mark.parametrize("name", ["quick", "", "paper", "../setup.py", "quickstart:tiger"])
def test_an_unknown_configuration_is_told_the_names(name):
    with pytest.raises(InputError) as error:
        config_path(name)
    assert error.value.found == repr(name)
    for known in ("quickstart", "paper/table2"):
        assert known in error.value.expected


def test_the_packages_own_folder_comes_first(installed):
    beside = installed.parent / "gin"
    beside.mkdir()
    assert packaged("gin") == beside
    (installed / "gin").mkdir()
    assert packaged("gin") == installed / "gin"


def test_an_install_without_the_folder_says_so(installed):
    with pytest.raises(InputError) as error:
        packaged("configs")
    assert error.value.where == str(installed)
    assert "configs" in error.value.expected
