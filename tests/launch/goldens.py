"""What the launchers print in a dry run, as it stands in golden/; renewed, to be read as a diff, by

python -m tests.launch.goldens
"""

import contextlib
import io
import os
import pathlib
import runpy
import shlex
import sys
import tempfile
from unittest import mock

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"
GOLDEN = pathlib.Path(__file__).parent / "golden"

FILE = f"--launch={LAUNCH / 'launch.yaml'}"
TRAIN = ("train", "--config=seq2seq", "--workdir=/bucket/my runs", "--config.seed=1")
EXPORT = ("export", "--config=quickstart", "--workdir=/bucket/quickstart")
IMPORT = ("import_data", "csv", "--path=shop.csv", "--output=/bucket/data", "--separator= > ")
CONVERT = ("convert_checkpoint", "--from=google", "--to=grown", "--format=t5x")
T5X = ("--gin_file=gin/models/t5_1_1_base.gin", "--gin.WORKDIR='/bucket/x'")
RUNS = (("--run=large", "logs"), ("--run=large", "delete"))
PLACE = ("--project=my-project", "--zone=us-east5-b")

CASES = {
    "local": [
        ("local.py", FILE, "--port=1234", *TRAIN),
        ("local.py", "--processes=1", "--port=1234", *IMPORT),
        ("local.py", FILE, "--port=1234", "t5x.train", *T5X),
    ],
    "slurm": [
        ("slurm.py", FILE, "--python=python", *TRAIN),
        ("slurm.py", "--python=python", "--gpus_per_node=0", "inspect", "--config=quickstart"),
        ("slurm.py", FILE, "--python=python", "t5x.train", *T5X),
        *(("slurm.py", *words) for words in RUNS),
    ],
    "tpu_vm": [("tpu_vm.py", FILE, *TRAIN), ("tpu_vm.py", *PLACE, "--run=large", "delete")],
    "tpu_vm_alone": [("tpu_vm.py", *PLACE, "--spot=false", "--run=grown", *CONVERT)],
    "gke_tpu": [("gke.py", FILE, *TRAIN), *(("gke.py", FILE, *words) for words in RUNS)],
    "gke_gpu": [
        (
            *("gke.py", FILE, "--accelerator=nvidia-h100-80gb", "--topology=", "--nodes=2"),
            *("--per_node=8", "t5x.train", *T5X),
        )
    ],
    "gke_cpu": [
        (
            *("gke.py", *PLACE, "--cluster=my-cluster", "--location=us-east5-b", "--queue="),
            *("--image=catid2", "--spot=false", *EXPORT),
        )
    ],
    "xpk": [
        ("gke.py", FILE, "--xpk=true", "--accelerator=v6e-16", "--topology=", *TRAIN),
        (
            *("gke.py", FILE, "--xpk=true", "--accelerator=h100-80gb-8", "--topology="),
            *("--nodes=2", *TRAIN),
        ),
        *(("gke.py", FILE, "--xpk=true", *words) for words in RUNS),
    ],
    "skypilot_gpu": [
        ("skypilot.py", FILE, *TRAIN),
        ("skypilot.py", FILE, "t5x.train", *T5X),
        *(("skypilot.py", *words) for words in RUNS),
    ],
    "skypilot_tpu": [
        ("skypilot.py", FILE, "--accelerators=tpu-v6e-16", "--nodes=1", *TRAIN),
        ("skypilot.py", FILE, "--accelerators=tpu-v6e-16", "--nodes=1", *IMPORT),
    ],
    "skypilot_cpu": [
        (
            *("skypilot.py", "--bucket=my-bucket", "--infra=aws", "--store=s3", "--spot=false"),
            *("prepare", "--config=quickstart", "--workdir=/bucket/x"),
        ),
        (
            *("skypilot.py", "--accelerators=H100:1"),
            *("train", "--config=seq2seq", "--workdir=gs://my-bucket/runs/large"),
        ),
    ],
    "ray_train": [
        ("ray_train.py", FILE, *TRAIN),
        (
            *("ray_train.py", "--workers=4", "--accelerator=TPU-V6E", "--topology=4x4"),
            *("--restarts=0", "t5x.train", *T5X),
        ),
        *(("ray_train.py", FILE, *words) for words in RUNS),
    ],
    "docker": [
        ("docker.py", FILE, "--runs=/srv/runs", *TRAIN),
        (
            "docker.py",
            "--image=catid2",
            "--build=false",
            "--runs=/srv/runs",
            "--restarts=0",
            *CONVERT,
        ),
        (
            *("docker.py", FILE, "--accelerator=tpu", "--push=true", "--runs=/srv/runs"),
            *("t5x.infer", *T5X),
        ),
        *(("docker.py", *words) for words in RUNS),
    ],
}
"""Name -> command lines, without --dry_run."""


def call(script, *words):
    """Exit code, standard output and standard error of a launcher, run in this process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    path = [str(LAUNCH), *sys.path]
    with (
        mock.patch.multiple(sys, argv=[str(LAUNCH / script), *words], path=path),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            runpy.run_path(str(LAUNCH / script), run_name="__main__")
        except SystemExit as error:
            code = error.code
    return code, out.getvalue(), err.getvalue()


def render(name, folder):
    """The text of a golden file; what is written goes to a folder."""
    shown = []
    with contextlib.chdir(folder), mock.patch.dict(os.environ, XLA_FLAGS=""):
        for script, *words in CASES[name]:
            code, out, err = call(script, "--dry_run", *words)
            assert (code, err) == (0, ""), err
            line = shlex.join(["python", f"launch/{script}", "--dry_run", *words])
            shown.append(f"% {line}\n{out}")
    text = "\n".join(shown).replace(sys.executable, "PYTHON")
    return text.replace(str(LAUNCH), "launch")


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name in CASES:
        with tempfile.TemporaryDirectory() as folder:
            (GOLDEN / f"{name}.txt").write_text(render(name, folder), encoding="utf-8")
