"""The one exception for input that the user can mend."""

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
