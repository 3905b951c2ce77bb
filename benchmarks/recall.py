"""Recall@k of one configuration over several seeds: mean and standard deviation of each row.

    python benchmarks/recall.py benchmarks/configs/grocery.py --seeds 0 1 2 [--runs runs] [--read]

Runs `pipeline` for every seed with CAT-ID2, TIGER and BM25 in RUNS/<configuration>-<seed> (finished
runs are only read), and prints a Markdown table, with the time of each step.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

CUTOFFS = (5, 10, 20, 50, 100)
SYSTEMS = ("cat_id2", "tiger", "bm25")
ROWS = {"bm25": "BM25", "tiger": "TIGER", "cat_id2": "CAT-ID2"}
STEPS = ("docids", "train_seq2seq", "retrieve")


def run(config: pathlib.Path, workdir: pathlib.Path, seed: int) -> None:
    """One pipeline; its output goes to this one's."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "catid2_jax.pipeline",
            f"--config={config}",
            f"--workdir={workdir}",
            f"--config.seed={seed}",
            f"--config.systems={SYSTEMS}",
        ],
        check=True,
    )


def spread(values: list[float]) -> str:
    """`mean ± standard deviation`, or the value where there is one."""
    if len(set(values)) == 1:
        return f"{values[0]:.1f}"
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def recall_table(workdirs: list[pathlib.Path]) -> str:
    """Markdown: a row per system, a column per cutoff, in percent."""
    metrics = [json.loads((w / "metrics.json").read_text()) for w in workdirs]
    lines = ["| | " + " | ".join(f"R@{k}" for k in CUTOFFS) + " | collisions |"]
    lines.append("|---" * (len(CUTOFFS) + 2) + "|")
    for system, name in ROWS.items():
        cells = [spread([100 * m[f"{system}/recall@{k}"] for m in metrics]) for k in CUTOFFS]
        collisions = [m.get(f"{system}/collision_rate") for m in metrics]
        cells.append("" if None in collisions else spread([100 * c for c in collisions]) + " %")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def seconds(workdir: pathlib.Path, system: str, step: str) -> float:
    """How long a step of a system took."""
    return json.loads((workdir / system / "steps" / f"{step}.json").read_text())["seconds"]


def time_table(workdirs: list[pathlib.Path]) -> str:
    """Markdown: seconds of each step, mean over the seeds."""
    lines = ["| seconds | " + " | ".join(STEPS) + " |", "|---" * (len(STEPS) + 1) + "|"]
    for system in ("tiger", "cat_id2"):
        means = (statistics.mean(seconds(w, system, step) for w in workdirs) for step in STEPS)
        lines.append(f"| {ROWS[system]} | " + " | ".join(f"{mean:.0f}" for mean in means) + " |")
    return "\n".join(lines)


def main() -> None:
    """Runs or reads, and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"))
    parser.add_argument("--read", action="store_true", help="only read finished runs")
    arguments = parser.parse_args()
    workdirs = [arguments.runs / f"{arguments.config.stem}-{seed}" for seed in arguments.seeds]
    if not arguments.read:
        for workdir, seed in zip(workdirs, arguments.seeds, strict=True):
            run(arguments.config, workdir, seed)
    print(recall_table(workdirs), time_table(workdirs), sep="\n\n")


if __name__ == "__main__":
    main()
