"""Ids that come twice, in memory and on disk alike."""

import contextlib
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catid2_jax.data import seen_ids
from catid2_jax.data.seen_ids import SeenIds
from catid2_jax.errors import InputError

IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3) | st.sampled_from(
    ["a", "A", "a\0", "a\0b", "é", "e\u0301", "1", "01", "1.0"]
)


@given(st.lists(IDS, max_size=30), st.sampled_from([1, 2, 5, 1000]))
def test_an_id_comes_again_where_a_dictionary_says_so(ids, in_memory):
    first: dict[str, str] = {}
    with pytest.MonkeyPatch.context() as patched, contextlib.closing(SeenIds()) as seen:
        patched.setattr(seen_ids, "_IN_MEMORY", in_memory)
        for number, identifier in enumerate(ids):
            place = f":{number}"
            expected = first.setdefault(identifier, place)
            assert seen.add(identifier, place) == (None if expected == place else expected)


def test_of_many_ids_none_stays_in_memory(monkeypatch):
    monkeypatch.setattr(seen_ids, "_IN_MEMORY", 10)
    with contextlib.closing(SeenIds()) as seen:
        for number in range(100):
            assert seen.add(f"p{number}", f":{number}") is None
        assert not seen._places
        assert [seen.add(f"p{number}", ":x") for number in (0, 9, 10, 99)] == [
            ":0",
            ":9",
            ":10",
            ":99",
        ]
        seen._table.execute("PRAGMA max_page_count = 1")  # a full disk
        with pytest.raises(InputError) as error:
            seen.add("q" * 100_000, ":100")
    assert (error.value.where, error.value.found) == (
        "temporary file",
        "database or disk is full",
    )
    assert "TMPDIR" in error.value.expected
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        seen._table.execute("SELECT 1")
