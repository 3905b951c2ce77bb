"""Finds ids that come twice, among any number of them in bounded memory."""

import sqlite3

from catid2_jax.errors import InputError

_IN_MEMORY = 1 << 18  # ids, about 60 MB


class SeenIds:
    """The ids of a catalogue, each with the place at which it came first.

    The first 262,144 are in memory. Where there are more, all are in a temporary file of SQLite's,
    in the folder that TMPDIR names, of about 25 bytes per id; it has no name and ends with the
    process.
    """

    def __init__(self) -> None:
        self._places: dict[str, str] = {}
        self._table: sqlite3.Connection | None = None

    def add(self, identifier: str, place: str) -> str | None:
        """Notes an id.

        Args:
            identifier: the id.
            place: where it comes, other than all before.

        Returns:
            The place at which it came first, where it came before; otherwise None.

        Raises:
            InputError: the temporary file cannot be written.
        """
        if self._table is None:
            first = self._places.setdefault(identifier, place)
            if first != place:
                return first
            if len(self._places) < _IN_MEMORY:
                return None
        try:
            return self._add_on_disk(identifier, place)
        except sqlite3.Error as error:
            expected = "space for the ids in the folder that the variable TMPDIR names"
            raise InputError("temporary file", error, expected) from error

    def close(self) -> None:
        """Removes the temporary file."""
        if self._table:
            self._table.close()

    def _add_on_disk(self, identifier: str, place: str) -> str | None:
        if self._table is None:
            self._table = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._table.execute("PRAGMA journal_mode = OFF")
            self._table.execute("PRAGMA cache_size = -65536")  # KiB
            self._table.execute("CREATE TABLE seen (id TEXT PRIMARY KEY, place TEXT) WITHOUT ROWID")
            self._table.execute("BEGIN")
            self._table.executemany("INSERT INTO seen VALUES (?, ?)", self._places.items())
            self._places.clear()
            return None
        values = (identifier, place)
        if self._table.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", values).rowcount:
            return None
        found = self._table.execute("SELECT place FROM seen WHERE id = ?", (identifier,))
        return str(found.fetchone()[0])
