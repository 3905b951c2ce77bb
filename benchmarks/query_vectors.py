r"""Recall@k of a decoder on query vectors for the IDs of several systems, over several seeds.

    python benchmarks/docids.py benchmarks/configs/grocery.py \
        --systems table3_tiger table3_cat_id2 --runs ids
    python benchmarks/query_vectors.py benchmarks/configs/grocery_vectors.py \
        --ids ids [--runs runs] [--read]

Takes the IDs that the first leaves in IDS/grocery-<seed>/<system>, trains stage 2 on each in
RUNS/<configuration>-<system>-<seed> (finished runs are only read), beside BM25, and prints a
Markdown table, with the seconds of stage 2.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

from recall import CUTOFFS, seconds, spread

NAMES = {"table3_tiger": "TIGER", "table3_cat_id2": "CAT-ID2"}


def run(config: pathlib.Path, ids: pathlib.Path, workdir: pathlib.Path, seed: int) -> None:
    """One pipeline from given IDs; its output goes to this one's."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "catid2_jax.pipeline",
            f"--config={config}:given",
            f"--workdir={workdir}",
            f"--config.seed={seed}",
            f"--config.docids.path={ids}",
            "--config.docids.path_codebook_size=256",
        ],
        check=True,
    )


def row(name: str, metrics: list[dict[str, float]], system: str, times: list[float]) -> str:
    """A row of the table, in percent."""
    cells = [spread([100 * m[f"{system}/recall@{k}"] for m in metrics]) for k in CUTOFFS]
    cells.append(f"{statistics.mean(times):.0f}" if times else "")
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Runs or reads, and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=pathlib.Path)
    parser.add_argument("--ids", type=pathlib.Path, required=True, help="the RUNS of docids.py")
    parser.add_argument("--systems", nargs="+", default=list(NAMES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"))
    parser.add_argument("--read", action="store_true", help="only read finished runs")
    arguments = parser.parse_args()
    workdirs: dict[str, list[pathlib.Path]] = {system: [] for system in arguments.systems}
    for seed in arguments.seeds:  # so that what is done of it can be compared at any time
        for system, places in workdirs.items():
            places.append(arguments.runs / f"{arguments.config.stem}-{system}-{seed}")
            if not arguments.read:
                made_with = arguments.config.stem.removesuffix("_vectors")
                ids = arguments.ids / f"{made_with}-{seed}" / system / "docids.jsonl"
                run(arguments.config, ids, places[-1], seed)
    print("| | " + " | ".join(f"R@{k}" for k in CUTOFFS) + " | seconds |")
    print("|---" * (len(CUTOFFS) + 2) + "|")
    for i, (system, places) in enumerate(workdirs.items()):
        metrics = [json.loads((place / "metrics.json").read_text()) for place in places]
        if not i:
            print(row("BM25", metrics, "bm25", []))
        times = [seconds(place, "given", "train_seq2seq") for place in places]
        print(row(NAMES.get(system, system), metrics, "given", times))


if __name__ == "__main__":
    main()
