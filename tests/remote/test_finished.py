"""A finished work directory in a bucket: each verb leaves there what it leaves in a folder."""

import importlib
import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from catid2_jax.lock import LOCK
from catid2_jax.remote.bucket import Bucket
from tests.remote.conftest import contents

CONFIG = "--config=tests/plugins/tiny.py"
TIMES = ("finished", "seconds", "memory", "seal")
"""Keys of records whose values are another in each run."""

VERBS = {
    "evaluate": ([CONFIG, "--config.evaluate.cutoffs=(1,5)"], {"metrics.json"}),
    "inspect": ([CONFIG], {"inspect.json"}),
    "retrieve": ([CONFIG, "--config.retrieve.k=5"], {"cat_id2/run.trec"}),
    "export": ([CONFIG], {"cat_id2/export/bundle.json", "cat_id2/export/retrieve.stablehlo"}),
    "report": ([], {"report/index.html"}),
}
"""Verb -> its flags, and some of the files that it leaves."""

SLOW = ("retrieve", "export", "report")


def files_in(folder: pathlib.Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != LOCK
    }


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(v) for key, v in value.items() if key not in TIMES}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def comparable(path: str, text: bytes, place: str) -> object:
    """What a file says that neither time nor the work directory's name changes."""
    if path.endswith(".json"):
        return without_times(json.loads(text))
    return text.replace(place.encode(), b"PLACE") if path.endswith(".html") else text


def run(verb: str, words: list[str]) -> None:
    if verb == "export":  # beyond the tests' checks of shapes, which know no batch of any size
        command = [sys.executable, "-m", f"catid2_jax.{verb}", *words]
        subprocess.run(command, check=True, capture_output=True, timeout=600)
    else:
        importlib.import_module(f"catid2_jax.{verb}").main(["catid2", *words])


@pytest.mark.parametrize(
    "verb", [pytest.param(v, marks=pytest.mark.slow) if v in SLOW else v for v in VERBS]
)
def test_a_verb_leaves_in_the_bucket_what_it_leaves_in_a_folder(verb, s3, tiny_workdir, tmp_path):
    words, expected = VERBS[verb]
    local, url = tmp_path / "tiny", f"{s3}/tiny"
    shutil.copytree(tiny_workdir, local, ignore=shutil.ignore_patterns(LOCK))
    before = files_in(local)
    Bucket(url).put(local, before)
    for place in (str(local), url):
        run(verb, [*words, f"--workdir={place}"])
    after, remote = files_in(local), contents(url)
    assert remote.keys() == after.keys()
    changed = {path for path, text in after.items() if before.get(path) != text}
    assert expected <= changed
    for path, text in after.items():
        ours = comparable(path, remote[path], url)
        assert ours == comparable(path, text, str(local)), path
