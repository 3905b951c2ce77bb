"""Runs an entry point on every worker of a Cloud TPU VM (a slice of one machine or of many).

    python launch/tpu_vm.py --project=my-project --zone=us-east5-b --bucket=my-bucket \
        --accelerator=v6e-8 --runtime=v2-alpha-tpuv6e \
        train --config=seq2seq --workdir=/bucket/runs/large

It asks for the TPU as a queued resource, copies this folder, installs it, runs the entry point
detached on all workers, follows the log of the first one, and deletes the TPU. A dropped
connection or Ctrl-C ends nothing: the same command follows again. A TPU that was preempted is
asked for again, and the job goes on from its last checkpoint in the bucket. `logs` follows the
job, `delete` ends it and deletes the TPU.

The TPU deletes itself, too: `--keep` seconds after the end of the job, and where no job was started
in an hour.
"""

import dataclasses
import hashlib
import pathlib
import shlex
from typing import Annotated

import entry_points
from launching import Job, Plan, Settings, launch, matches, required

from catid2_jax.constraints import PositiveFloat, PositiveInt

Duration = Annotated[str, matches("a duration, such as 6h or 90m", r"\d+[hms]")]

INSTALL = """\
#!/usr/bin/env bash
# On every worker: the code and its environment.
set -euo pipefail
rm -rf code && mkdir code && tar -xzf code.tar.gz -C code
cd code
python3 -m venv .venv
.venv/bin/pip install --quiet -e '.[inspect,remote,tpu]'
"""

MOUNT = """\
# The bucket as a folder.
if ! command -v gcsfuse >/dev/null; then
  release=gcsfuse-$(lsb_release -c -s)
  key=/usr/share/keyrings/cloud.google.asc
  source="deb [signed-by=$key] https://packages.cloud.google.com/apt $release main"
  curl -fsS https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo tee "$key" >/dev/null
  echo "$source" | sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
  sudo apt-get update -qq
  sudo apt-get install -qq -y gcsfuse
fi
sudo mkdir -p /bucket
sudo chown "$(id -u)" /bucket
mountpoint -q /bucket || gcsfuse --implicit-dirs {bucket} /bucket
"""

JOB = """\
#!/usr/bin/env bash
# On every worker: the job, and then the end of the TPU.
PATH=$PATH:/snap/bin
cd "$(dirname "$0")/../code" || exit 2
{command}
code=$?
echo "$code" >../run/code.part
mv ../run/code.part ../run/code
sleep {keep}
{delete}
"""

WATCH = """\
#!/usr/bin/env bash
# As the TPU starts: without a job in an hour it deletes itself.
PATH=$PATH:/snap/bin
(
  sleep 3600
  compgen -G '/home/*/run/job.sh' >/dev/null ||
    {delete}
) &
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TpuSettings(Settings):
    """A Cloud TPU VM.

    Attributes:
        accelerator: type and number of cores or chips, such as v6e-8, v5litepod-16 or v4-32.
        runtime: the TPU software version that goes with it.
        spot: whether it may be preempted, which is much cheaper; otherwise on demand.
        wait: for how long the request waits for a TPU.
        keep: seconds after the end of the job at which the TPU deletes itself, where nobody has.
        poll: seconds between two looks at the state of the TPU.
    """

    accelerator: Annotated[str, matches("a type such as v6e-8", r"v\d\w*-\d+")] = "v6e-8"
    runtime: str = "v2-alpha-tpuv6e"
    spot: bool = True
    wait: Duration = "6h"
    keep: PositiveInt = 900
    poll: PositiveFloat = 20.0


def plan(settings: TpuSettings, job: Job) -> Plan:
    """One script that does it all; the same again goes on where it was."""
    required(settings, "project", "zone")
    command = entry_points.command(".venv/bin/python", job.entry_point, job.arguments)
    alone = job.entry_point in entry_points.ALONE
    delete = shlex.join(
        [
            *("gcloud", "compute", "tpus", "queued-resources", "delete", job.name),
            *(f"--project={settings.project}", f"--zone={settings.zone}"),
            *("--force", "--quiet", "--async"),
        ]
    )
    line = shlex.join(command + entry_points.on_tpu(job.entry_point))
    worker = JOB.format(command=line, keep=settings.keep, delete=delete)
    variables = {
        "RUN": job.name,
        "PROJECT": settings.project,
        "ZONE": settings.zone,
        "BUCKET": settings.bucket,
        "ACCELERATOR": settings.accelerator,
        "RUNTIME": settings.runtime,
        "WAIT": settings.wait,
        "WORKERS": "0" if alone else "all",
        "DIGEST": hashlib.sha256(worker.encode()).hexdigest()[:16],
        "POLL": f"{settings.poll:g}",
        "PATIENCE": f"{30 * settings.poll:g}",
    }
    header = "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())
    capacity = f"CAPACITY=({'--spot' if settings.spot else ''})\n"
    body = pathlib.Path(__file__).with_suffix(".sh").read_text(encoding="utf-8")
    install = INSTALL + (MOUNT.format(bucket=settings.bucket) if settings.bucket else "")
    script = {"tpu_vm.sh": f"#!/usr/bin/env bash\n{header}{capacity}\n{body}"}
    if job.entry_point in ("logs", "delete"):
        return Plan([["bash", "{tpu_vm.sh}", job.entry_point]], script)
    on_workers = {"install.sh": install, "job.sh": worker, "watch.sh": WATCH.format(delete=delete)}
    return Plan([["bash", "{tpu_vm.sh}"]], script | on_workers)


if __name__ == "__main__":
    launch(__doc__, TpuSettings, plan)
