r"""What the IDs of several systems are like, over several seeds: Table 3's rows by default.

    python benchmarks/docids.py benchmarks/configs/offers.py [--systems ...] [--seeds 0 1 2] \
        [--runs runs/docids]

Runs the steps up to `docids` for every system, the work directory of a seed being
RUNS/<configuration>-<seed> (what is done there is not run again), measures the IDs, and prints
Markdown tables of mean ± standard deviation.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

TABLE_3 = ("tiger", "hccl", "cscl", "hccl_cscl", "disl", "hccl_disl", "cat_id2")
NAMES = {  # rows of the paper's Table 3
    "table3_tiger": "(0) TIGER",
    "table3_hccl": "(1) + HCC",
    "table3_cscl": "(2) + CSC",
    "table3_hccl_cscl": "(3) + HCC + CSC",
    "table3_disl": "(4) Dis for recon",
    "table3_hccl_disl": "(5) HCC + Dis",
    "table3_cat_id2": "(6) CAT-ID2",
}
SCALARS = {
    "collisions, %": ("collision_rate", 100),
    "moved, %": ("documents_reassigned", 100),
    "error at L": ("quantization_error/level_4", 1),
    "common prefix within leaf": ("common_prefix/within_leaf", 1),
    "across leaves": ("common_prefix/across_leaves", 1),
    "of neighbours": ("common_prefix/nearest_neighbors", 1),
}
PER_LEVEL = {
    "perplexity before reassignment": ("before_reassignment/perplexity", 4),
    "dead codes before reassignment": ("before_reassignment/dead_codes", 4),
    "category purity": ("category_purity", 3),
    "category NMI": ("category_nmi", 3),
    "category AMI": ("category_ami", 3),
}


def measure(
    config: pathlib.Path, systems: list[str], seed: int, workdir: pathlib.Path
) -> dict[str, float]:
    """The figures of all systems for one seed, by <system>/<name>."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "catid2_jax.evaluate",
            f"--config={config}",
            f"--workdir={workdir}",
            f"--config.seed={seed}",
            f"--config.systems={tuple(systems)}",
            "--config.evaluate.retrieval=False",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return json.loads((workdir / "metrics.json").read_text())


def cell(runs: list[dict[str, float]], name: str, scale: float) -> str:
    """`mean ± standard deviation` in three digits."""
    values = [scale * run[name] for run in runs]
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3g} ± {float(f'{deviation:.1g}'):g}"


def main() -> None:
    """Runs or reads, and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=pathlib.Path)
    parser.add_argument("--systems", nargs="+", default=[f"table3_{row}" for row in TABLE_3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/docids"))
    arguments = parser.parse_args()
    config, systems = arguments.config, arguments.systems
    runs = [
        measure(config, systems, seed, arguments.runs / f"{config.stem}-{seed}")
        for seed in arguments.seeds
    ]
    print(f"| | {' | '.join(SCALARS)} |")
    print("|---" * (len(SCALARS) + 1) + "|")
    for system in systems:
        cells = (cell(runs, f"{system}/{name}", scale) for name, scale in SCALARS.values())
        print(f"| {NAMES.get(system, system)} | {' | '.join(cells)} |")
    for title, (name, levels) in PER_LEVEL.items():
        print(f"\n| {title} | {' | '.join(f'level {i}' for i in range(1, levels + 1))} |")
        print("|---" * (levels + 1) + "|")
        for system in systems:
            cells = (cell(runs, f"{system}/{name}/level_{i}", 1) for i in range(1, levels + 1))
            print(f"| {NAMES.get(system, system)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
