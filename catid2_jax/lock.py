"""A lock on a work directory: one run at a time writes into it."""

import contextlib
import datetime
import errno
import fcntl
import functools
import json
import os
import pathlib
import socket
from collections.abc import Iterator

from catid2_jax.errors import InputError
from catid2_jax.processes import first_alone
from catid2_jax.progress import console

LOCK = ".lock"
"""Name of the file in a work directory that is locked, and says by whom."""

_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def locked(root: pathlib.Path) -> Iterator[None]:
    """Keeps other runs from a work directory until the block ends.

    The system itself frees the lock of a process that has ended, however it ended. Of several
    processes of one run the first one has the lock for all.

    Args:
        root: the work directory, which is made if it is missing.

    Raises:
        InputError: another run has the lock; it is named by its host, its process and since when.
        SystemExit: so it is, and this is not the first process.
    """
    with contextlib.ExitStack() as stack:
        first_alone(functools.partial(_acquire, root, stack))
        yield


def _acquire(root: pathlib.Path, stack: contextlib.ExitStack) -> None:
    """Locks, and has `stack` unlock."""
    if root.exists() and not root.is_dir():
        raise InputError(root, "a file", "a folder")
    made = [folder for folder in (root, *root.parents) if not folder.exists()]
    root.mkdir(parents=True, exist_ok=True)
    stack.callback(_remove_empty, made)
    path = root / LOCK
    file = stack.enter_context(open(path, "a+", encoding="utf-8"))  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            root, f"a run that is at work there: {_holder(path)}", "that it ends first"
        ) from error
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        console.print(f"warning: {root}: this file system has no locks; let one run at a time work")
    try:
        ours = os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        ours = False
    if not ours:  # whoever had it removed the file between the two calls
        _acquire(root, stack)
        return
    if path.stat().st_size:
        console.print(f"{root}: taken over from a run that was killed: {_holder(path)}")
    since = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
    file.truncate(0)
    json.dump({"host": socket.gethostname(), "process": os.getpid(), "since": since}, file)
    file.flush()
    stack.callback(path.unlink, missing_ok=True)


def _remove_empty(folders: list[pathlib.Path]) -> None:
    """Removes folders, inner ones first, that a refused run has left nothing in."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _holder(path: pathlib.Path) -> str:
    """Who has, or had, the lock, in words."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return f"process {found['process']} on {found['host']}, since {found['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process that has just begun"
