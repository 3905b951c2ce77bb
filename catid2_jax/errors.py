"""The one exception for what the user can mend."""

import re
from typing import Self


class InputError(ValueError):
    """Input that is wrong in a way its giver can mend, said in one line.

    Entry points print the line without a traceback and exit with code 2. Code that knows no
    command line names the argument, the file or the record at fault; a caller that knows more (the
    section of the configuration, say) adds it by `within`.

    Attributes:
        where: the place: a file with its line, a record, or the name of an argument; may be empty.
        found: what is there.
        expected: what should be there, or what to do about it.
    """

    def __init__(self, where: object, found: object, expected: object) -> None:
        self.where, self.found, self.expected = str(where), str(found), str(expected)
        super().__init__(self.where, self.found, self.expected)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}found {self.found}, expected {self.expected}"

    def within(self, place: str) -> Self:
        """The same error with `place` before its own, as in `config.retrieve` before `k`."""
        where = f"{place}.{self.where}" if self.where else place
        return type(self)(where, self.found, self.expected)


def system_error(error: BaseException) -> InputError | None:
    """What the operating system refuses, as an error of one line; None for any other error.

    No room on a disk, no permission and the like are OSErrors; from libraries that do not raise
    these (TensorStore, PyArrow, safetensors), they are read in the message.
    """
    if isinstance(error, MemoryError):
        return InputError("", f"no memory left {error}".strip(), "more, or a smaller task")
    if isinstance(error, OSError) and error.errno is not None:
        where = next((name for name in (error.filename, error.filename2) if name is not None), "")
        return InputError(where, error.strerror or error, "that it can be read or written")
    message = " ".join(str(error).split())
    if re.search(r"OS error \d+: |\(os error \d+\)|\[[Ee]rrno \d+\] |RESOURCE_EXHAUSTED", message):
        return InputError("", f"{message:.300}", "what the operating system allows")
    return None
