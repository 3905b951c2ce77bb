"""The configurations and gin files that come with the package, installed or in a checkout."""

import pathlib
from typing import Literal

from catid2_jax.errors import InputError


def config_path(name: str) -> pathlib.Path:
    """Finds a configuration by its path or by its name among the package's own.

    Args:
        name: path of a file, which comes first, or a name such as "quickstart", "quickstart.py" or
            "paper/table2".

    Raises:
        InputError: it is neither.
    """
    given = pathlib.Path(name)
    if given.is_file():
        return given
    folder = packaged("configs")
    own = {
        path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.py")
    }
    try:
        return own[name.removesuffix(".py")]
    except KeyError:
        expected = f"a file or one of {', '.join(sorted(own))}"
        raise InputError("configuration", repr(name), expected) from None


def packaged(folder: Literal["configs", "gin"]) -> pathlib.Path:
    """Finds a folder in the installed package or, in a checkout, beside the package.

    Raises:
        InputError: it is in neither place.
    """
    package = pathlib.Path(__file__).resolve().parent
    for place in (package, package.parent):
        if (place / folder).is_dir():
            return place / folder
    expected = f"the folder {folder}: reinstall catid2_jax from a wheel or a whole checkout"
    raise InputError(package, "an install without it", expected)
