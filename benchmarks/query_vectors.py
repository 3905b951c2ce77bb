"""Recall@k of a decoder on query vectors for the IDs of several presets, over several seeds.

    python benchmarks/docids.py configs/grocery.py --presets table3_tiger table3_cat_id2 --runs ids
    python benchmarks/query_vectors.py configs/grocery_vectors.py --ids ids [--runs runs] [--read]

Takes the IDs that the first leaves in IDS/<preset>-<seed>, trains stage 2 on each in
RUNS/<configuration>-<preset>-<seed> (finished runs are only read), beside BM25, and prints a
Markdown table, with the seconds of stage 2.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

from recall import CUTOFFS, spread

NAMES = {"table3_tiger": "TIGER", "table3_cat_id2": "CAT-ID2"}


def run(config: pathlib.Path, ids: pathlib.Path, workdir: pathlib.Path, seed: int) -> None:
    """One pipeline from given IDs; its output goes to this one's."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "catid2_jax.pipeline",
            f"--config={config}",
            f"--workdir={workdir}",
            f"--config.seed={seed}",
            f"--config.docids.path={ids}",
        ],
        check=True,
    )


def row(name: str, metrics: list[dict[str, float]], prefix: str, seconds: list[float]) -> str:
    """A row of the table, in percent."""
    cells = [spread([100 * m[f"{prefix}recall@{k}"] for m in metrics]) for k in CUTOFFS]
    cells.append(f"{statistics.mean(seconds):.0f}" if seconds else "")
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Runs or reads, and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=pathlib.Path)
    parser.add_argument("--ids", type=pathlib.Path, required=True)
    parser.add_argument("--presets", nargs="+", default=list(NAMES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"))
    parser.add_argument("--read", action="store_true", help="only read finished runs")
    arguments = parser.parse_args()
    workdirs: dict[str, list[pathlib.Path]] = {preset: [] for preset in arguments.presets}
    for seed in arguments.seeds:  # so that what is done of it can be compared at any time
        for preset, places in workdirs.items():
            places.append(arguments.runs / f"{arguments.config.stem}-{preset}-{seed}")
            if not arguments.read:
                ids = arguments.ids / f"{preset}-{seed}" / "docids.jsonl"
                run(arguments.config, ids, places[-1], seed)
    print("| | " + " | ".join(f"R@{k}" for k in CUTOFFS) + " | seconds |")
    print("|---" * (len(CUTOFFS) + 2) + "|")
    for i, (preset, places) in enumerate(workdirs.items()):
        metrics = [json.loads((place / "metrics.json").read_text()) for place in places]
        records = [json.loads((p / "steps/train_seq2seq.json").read_text()) for p in places]
        if not i:
            print(row("BM25", metrics, "bm25/", []))
        seconds = [record["seconds"] for record in records]
        print(row(NAMES.get(preset, preset), metrics, "", seconds))


if __name__ == "__main__":
    main()
