"""What ends a verb before its time: signals, the system, wrong settings; then the same again."""

import dataclasses
import filecmp
import math
import os
import pathlib
import random
import shutil
import signal
import time

from catid2_jax.lock import LOCK
from tests.faults.runs import (
    Run,
    changes_of,
    finish,
    little_room,
    on,
    run,
    start,
    without_privileges,
)

SHOP = "id,title,categories\n" + "".join(f"s{n},thing {n},A > B > C\n" for n in range(20_000))
JUDGED = "query_id,query,product_id,label\n" + "".join(
    f"q{n % 200},find {n % 200},s{n},E\n" for n in range(800)
)


@dataclasses.dataclass(frozen=True)
class Task:
    """A verb to be killed.

    Attributes:
        verb: its name.
        begins_done: whether it begins in the finished work directory, or else in an empty one.
        leaves: patterns of the files that must be the same as those of an undisturbed run.
    """

    verb: str
    begins_done: bool
    leaves: tuple[str, ...]

    def arguments(self, folder: pathlib.Path, shop: pathlib.Path) -> list[str]:
        """The command line in a folder."""
        if self.verb == "import_data":
            files = [f"--path={shop / 'shop.csv'}", f"--judgements={shop / 'judged.csv'}"]
            return ["csv", *files, "--separator=>", f"--output={folder / 'set'}"]
        if self.verb == "convert_checkpoint":
            return [f"--from={folder}", f"--to={folder / 'converted'}", "--format=huggingface"]
        return on(folder)


_DATA = ("data/*",)
_DOCIDS = (*_DATA, "embeddings.npy", "cat_id2/docids.jsonl")
_RUNS = (*_DOCIDS, "vocabulary.model", "*/run.trec")
TASKS = (
    Task("prepare", False, _DATA),
    Task("embed", False, (*_DATA, "embeddings.npy")),
    Task("assign", False, _DOCIDS),
    Task("train", False, (*_DOCIDS, "vocabulary.model")),
    Task("retrieve", False, _RUNS),
    Task("evaluate", False, (*_RUNS, "metrics.json")),
    Task("pipeline", False, (*_RUNS, "metrics.json")),
    Task("evaluate", True, (*_RUNS, "metrics.json")),
    Task("export", True, (*_RUNS, "cat_id2/export/[!r]*")),  # not the program, which has no order
    Task("inspect", True, ("inspect.json",)),
    Task("import_data", False, ("set/*",)),
    Task("convert_checkpoint", True, ("converted/*",)),
)

SECOND = 6
"""Number of the task beside which another run is started; one of it and those before it."""


_LONGEST_SAVE = 10.0  # seconds from a signal to the end


class Kills:
    """Undisturbed runs of all tasks, and what becomes of those that are disturbed."""

    def __init__(self, folder: pathlib.Path, done: pathlib.Path, count: int) -> None:
        """Runs the tasks undisturbed.

        Args:
            folder: for everything that is made.
            done: a finished work directory.
            count: of tasks, the first ones.
        """
        self._folder, self._done, self._tasks = folder, done, TASKS[:count]
        (folder / "shop.csv").write_text(SHOP)
        (folder / "judged.csv").write_text(JUDGED)
        self._seconds, self._changes = {}, {}
        for number, task in enumerate(self._tasks):
            place = self._begin(number, "undisturbed")
            log, changes = place.with_suffix(".log"), place.with_suffix(".changes")
            begun = time.monotonic()
            watch = changes_of(place, changes)
            found = run(task.verb, task.arguments(place, folder), log, watch)
            self._seconds[task] = time.monotonic() - begun
            self._changes[task] = changes.stat().st_size
            if found.code != 0:
                raise SystemExit(f"{task.verb}, undisturbed: {found.last}")

    def try_signal(self, number: int, generator: random.Random, *numbers: signal.Signals) -> str:
        """Signals one run at a random moment and starts it again.

        Args:
            number: says which task, which signal, and the name of its folder.
            generator: says when.
            *numbers: the signals.

        Returns:
            What is lost, or nothing.
        """
        task, place = self._task(number), self._begin(number, "signal")
        sent = numbers[(number + number // len(self._tasks)) % len(numbers)]
        arguments, log = task.arguments(place, self._folder), place.with_suffix(".log")
        process = start(task.verb, arguments, log)
        moment = generator.uniform(0, self._seconds[task])
        process.join(moment)
        since = time.monotonic()
        if process.exitcode is None and process.pid:
            os.kill(process.pid, sent)
        ended = finish(process, log)
        fault = ""
        codes = {0, 128 + sent} if log.exists() else {0, 128 + sent, -sent}
        if sent != signal.SIGKILL and (
            ended.code not in codes
            or "Traceback" in ended.text
            or time.monotonic() - since > _LONGEST_SAVE
        ):
            fault = f"code {ended.code} after {time.monotonic() - since:.1f} s, {ended.last}"
        return self._again(number, place, f"{sent.name} after {moment:.1f} s", fault)

    def try_change(self, number: int, generator: random.Random) -> str:
        """Kills one run before a random change of the file system and starts it again.

        Returns:
            What is lost, or nothing.
        """
        task, place = self._task(number), self._begin(number, "change")
        last = generator.randint(1, self._changes[task])
        watch = changes_of(place, place.with_suffix(".changes"), last)
        run(task.verb, task.arguments(place, self._folder), place.with_suffix(".log"), watch)
        return self._again(number, place, f"killed before change {last}", "")

    def try_little_room(self, number: int, generator: random.Random) -> str:
        """Lets no file grow beyond a random size, and then runs the same again.

        Returns:
            What is lost, or nothing.
        """
        task, place = self._task(number), self._begin(number, "room")
        size = int(math.exp(generator.uniform(math.log(6_000), math.log(200_000))))
        arguments, log = task.arguments(place, self._folder), place.with_suffix(".log")
        ended = run(task.verb, arguments, log, little_room(size))
        return self._again(number, place, f"room for {size:,} bytes", _unless_said(ended))

    def try_read_only(self, number: int, generator: random.Random) -> str:
        """Runs a verb where one folder is read-only, and again where none is any more.

        Returns:
            What is lost, or nothing.
        """
        task, place = self._task(number), self._begin(number, "closed")
        folders = [place, *(path for path in sorted(place.rglob("*")) if path.is_dir())]
        if not task.begins_done:
            folders += [place / name for name in ("data", "steps", "cat_id2", "bm25")]
        closed = generator.choice(folders)
        closed.mkdir(exist_ok=True)
        log = place.with_suffix(".log")
        closed.chmod(0o555)
        ended = run(task.verb, task.arguments(place, self._folder), log, without_privileges)
        closed.chmod(0o755)
        what = f"read-only {closed.relative_to(place.parent)}"
        return self._again(number, place, what, _unless_said(ended))

    def try_nan(self, number: int) -> str:
        """Trains one of the stages into NaN, and then with the right learning rate.

        Returns:
            What is lost, or nothing.
        """
        stage = ("rqvae_training", "seq2seq_training")[number]
        place = self._begin(SECOND, f"nan{number}-")
        wrong = on(place, f"--config.{stage}.learning_rate=1e30")
        ended = run(self._task(SECOND).verb, wrong, place.with_suffix(".log"))
        words = (" at step ", " documents (p0", "last good checkpoint", "Try a learning_rate below")
        said = ended.refused and all(word in ended.text for word in words)
        return self._again(SECOND, place, f"{stage} into NaN", "" if said else ended.last)

    def try_second(self, number: int) -> str:
        """Starts a run where one is at work; returns what is lost, or nothing.

        Args:
            number: says which verb comes second, and the name of the folder.
        """
        first, second = self._tasks[SECOND], self._tasks[number % (SECOND + 1)]
        place = self._begin(SECOND, f"second{number}-")
        log, other = place.with_suffix(".log"), place.with_suffix(".other.log")
        process = start(first.verb, on(place), log)
        while process.is_alive() and not (place / LOCK).exists():
            time.sleep(0.1)
        refused = run(second.verb, on(place, "--config.seed=1"), other)
        ended = finish(process, log)
        if not (refused.refused and f"process {process.pid} " in refused.text):
            return f"{second.verb} beside {first.verb}: {refused.code}, {refused.last}"
        lost = _differences(self._folder / f"undisturbed{SECOND}", place, first.leaves)
        if ended.code != 0 or lost:
            return f"{first.verb} before {second.verb}: {ended.last} {', '.join(lost)}"
        shutil.rmtree(place)
        return ""

    def _task(self, number: int) -> Task:
        return self._tasks[number % len(self._tasks)]

    def _begin(self, number: int, name: str) -> pathlib.Path:
        """A folder for a task: a finished work directory, or an empty one."""
        place = self._folder / f"{name}{number}"
        if self._task(number).begins_done:
            shutil.copytree(self._done, place)
        else:
            place.mkdir()
        return place

    def _again(self, number: int, place: pathlib.Path, what: str, fault: str) -> str:
        """Runs a task once more, undisturbed; returns what is lost after all, or nothing.

        Args:
            number: says which task.
            place: where it was disturbed.
            what: how.
            fault: what was wrong with its end.
        """
        task = self._task(number)
        again = Run(0, "")
        if not (place / "converted").exists():  # which convert_checkpoint would not write over
            again = run(task.verb, task.arguments(place, self._folder), place.with_suffix(".log"))
        undisturbed = self._folder / f"undisturbed{number % len(self._tasks)}"
        lost = [again.last] if again.code != 0 else _differences(undisturbed, place, task.leaves)
        if fault or lost:
            return f"{task.verb}, {what}: {', '.join(filter(None, [fault, *lost]))}"
        shutil.rmtree(place)
        return ""


def _unless_said(ended: Run) -> str:
    """How a run ended that was neither refused in one line nor undisturbed; nothing if it was."""
    return "" if ended.refused or ended.code == 0 else f"code {ended.code}, {ended.last}"


def _differences(expected: pathlib.Path, found: pathlib.Path, patterns: tuple[str, ...]) -> list:
    """Files that are not those of the undisturbed run, and those that a kill has left."""
    names = {
        path.relative_to(folder)
        for folder in (expected, found)
        for pattern in patterns
        for path in folder.glob(pattern)
    }
    differ = [
        str(name)
        for name in sorted(names)
        if not (found / name).exists()
        or not (expected / name).exists()
        or not filecmp.cmp(expected / name, found / name, shallow=False)
    ]
    return differ + [str(path.relative_to(found)) for path in sorted(found.rglob(".*.tmp"))]
