"""What ray_train.py submits: runs a module of catid2_jax in all workers of Ray's JaxTrainer.

    python launch/ray_job.py '{"num_workers": 2, "use_gpu": true}' RESTARTS MODULE ARGUMENTS...

The first argument is what Ray's ScalingConfig takes, the second how often it starts again.
"""

import json
import os
import runpy
import sys

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.jax import JaxTrainer


def work(command: dict[str, list[str]]) -> int:
    """Runs the module in a worker, which Ray has made one of several for JAX.

    Returns:
        0, or 2 for bad input, which another attempt would find again.
    """
    module, *arguments = command["words"]
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code not in (0, None, 2):
            raise RuntimeError(f"{module} ended with exit code {end.code}") from end
        return int(end.code or 0)
    return 0


def main() -> None:
    """Ends with the exit code of the first worker."""
    scaling, restarts, *words = sys.argv[1:]
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"  # workers stay in the copy of the checkout
    # It would keep SIGTERM for itself; a training asks all processes after every dispatch.
    environment = {"env_vars": {"JAX_ENABLE_PREEMPTION_SERVICE": "0"}}
    trainer = JaxTrainer(
        work,
        train_loop_config={"words": words},
        scaling_config=ScalingConfig(**json.loads(scaling)),
        run_config=RunConfig(
            failure_config=FailureConfig(max_failures=int(restarts)),
            worker_runtime_env=environment,
        ),
    )
    sys.exit(trainer.fit().return_value)


if __name__ == "__main__":
    main()
