"""How the processes that are broken on purpose are said to have ended."""

import multiprocessing
import types

from tests.faults.runs import finish, start


def test_the_exit_code_is_read_by_the_thread_that_waits_for_it(tmp_path):
    """Each start of another process, as each call here, reads the codes of all that are known."""
    log = tmp_path / "log"
    process = start("prepare", ["--config=no-such"], log)
    while not log.exists() or not log.read_text().endswith("\n"):
        assert process not in multiprocessing.active_children()
    ended = finish(process, log)
    assert ended.code == 2
    assert ended.refused
    assert ended.last.startswith("error: --config: found")


def test_a_code_that_could_not_be_read_is_none(tmp_path):
    """It is neither that of a run that went well nor that of one that was refused."""
    gone = types.SimpleNamespace(exitcode=255, join=lambda _: None, is_alive=lambda: False)
    (tmp_path / "log").write_text("error: found this, expected that\n")
    ended = finish(gone, tmp_path / "log")
    assert ended.code is None
    assert not ended.refused
    assert ended.last == "no exit code could be read"
