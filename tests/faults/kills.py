"""kill -9 at a random moment of a verb; then the same command again."""

import dataclasses
import filecmp
import pathlib
import random
import shutil
import time

from catid2_jax.lock import LOCK
from tests.faults.runs import finish, on, run, start

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


class Kills:
    """Undisturbed runs of all tasks, and what becomes of those that are killed."""

    def __init__(self, folder: pathlib.Path, done: pathlib.Path, count: int) -> None:
        """Runs the tasks undisturbed.

        Args:
            folder: for everything that is made.
            done: a finished work directory.
            count: how many there will be killed.
        """
        self._folder, self._done, self._tasks = folder, done, TASKS[:count]
        (folder / "shop.csv").write_text(SHOP)
        (folder / "judged.csv").write_text(JUDGED)
        self._seconds = {}
        for number, task in enumerate(self._tasks):
            place = self._begin(task, f"undisturbed{number}")
            begun = time.monotonic()
            found = run(task.verb, task.arguments(place, folder), place.with_suffix(".log"))
            self._seconds[task] = time.monotonic() - begun
            if found.code != 0:
                raise SystemExit(f"{task.verb}, undisturbed: {found.last}")

    def try_one(self, number: int, generator: random.Random) -> str:
        """Kills one run at a random moment and starts it again; returns what is lost, or nothing.

        Args:
            number: says which task, and the name of its folder.
            generator: says when.
        """
        task = self._tasks[number % len(self._tasks)]
        place = self._begin(task, f"killed{number}")
        arguments, log = task.arguments(place, self._folder), place.with_suffix(".log")
        process = start(task.verb, arguments, log)
        moment = generator.uniform(0, self._seconds[task])
        process.join(moment)
        process.kill()
        finish(process, log)
        again = run(task.verb, arguments, log)
        undisturbed = self._folder / f"undisturbed{number % len(self._tasks)}"
        lost = _differences(undisturbed, place, task.leaves)
        if again.code != 0:
            lost = [again.last]
        if lost:
            return f"{task.verb} killed after {moment:.1f} s: {', '.join(lost)}"
        shutil.rmtree(place)
        return ""

    def try_second(self, number: int) -> str:
        """Starts a run where one is at work; returns what is lost, or nothing.

        Args:
            number: says which verb comes second, and the name of the folder.
        """
        first, second = self._tasks[SECOND], self._tasks[number % (SECOND + 1)]
        place = self._begin(first, f"second{number}")
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

    def _begin(self, task: Task, name: str) -> pathlib.Path:
        place = self._folder / name
        if task.begins_done:
            shutil.copytree(self._done, place)
        else:
            place.mkdir()
        return place


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
