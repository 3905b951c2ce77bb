"""The most memory that a part of a run takes."""

import contextlib
import pathlib
import re
import resource
import sys

_PROCESS = pathlib.Path("/proc/self")


def reset_peak() -> None:
    """Has `peak_memory` count from now on; where the system cannot, it goes on from the start."""
    with contextlib.suppress(OSError):
        (_PROCESS / "clear_refs").write_text("5", encoding="ascii")


def peak_memory() -> int:
    """The most resident bytes of this process since `reset_peak`."""
    with contextlib.suppress(OSError):
        found = re.search(r"^VmHWM:\s*(\d+) kB$", (_PROCESS / "status").read_text(), re.MULTILINE)
        if found:
            return 1024 * int(found[1])
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else 1024 * used
