"""Runs an entry point on every worker of a Cloud TPU VM (a slice of one machine or of many).

    python launch/tpu_vm.py --name=my-tpu --zone=us-central2-b --directory=catid2_jax \
        train --config=configs/seq2seq.py --workdir=/mnt/shared/run

`--directory` holds this repository on the workers, with `.venv` made by
`pip install -e '.[tpu]'`; the work directory must lie on a file system that they share, such as
Filestore. What was interrupted goes on when the same command is given again.
"""

import shlex
import subprocess
import sys

import entry_points


def main() -> None:
    """Parses, and runs or prints."""
    parser = entry_points.parser(__doc__)
    parser.add_argument("--name", required=True, help="of the TPU")
    parser.add_argument("--zone", required=True)
    parser.add_argument("--project", default="", help="gcloud's own if empty")
    parser.add_argument(
        "--directory", default="catid2_jax", help="of the repository, on each worker"
    )
    parser.add_argument("--python", default=".venv/bin/python", help="from the directory")
    options = parser.parse_args()
    command = entry_points.command(options.python, options.entry_point, options.arguments)
    if options.entry_point in entry_points.VERBS:  # T5X needs to be told nothing on a TPU
        command += entry_points.distributed(options.entry_point)
    ssh = ["gcloud", "compute", "tpus", "tpu-vm", "ssh", options.name, f"--zone={options.zone}"]
    if options.project:
        ssh.append(f"--project={options.project}")
    remote = f"cd {shlex.quote(options.directory)} && exec {shlex.join(command)}"
    ssh += ["--worker=all", f"--command={remote}"]
    if options.dry_run:
        print(shlex.join(ssh))
        return
    try:
        sys.exit(subprocess.run(ssh, check=False).returncode)
    except FileNotFoundError:
        entry_points.fail("found no gcloud, expected Google Cloud's command line tools")


if __name__ == "__main__":
    main()
