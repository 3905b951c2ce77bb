"""Draws the examples of each batch, as a pure function of the seed and the step.

So a resumed training sees what an uninterrupted one would have seen.
"""

import numpy as np

from catid2_jax.errors import InputError


class EpochSampler:
    """Batches of a new permutation per epoch; its tail, too short for a batch, is left out.

    No example is twice in a batch, which the contrastive losses rely on.
    """

    def __init__(self, examples: int, batch_size: int, seed: int, devices: int = 1) -> None:
        """Plans batches of `batch_size`, or of what there is if `examples` are fewer.

        Args:
            examples: number of examples.
            batch_size: examples of a step, over all devices.
            seed: seed of the permutations.
            devices: number of devices that share a batch evenly.

        Raises:
            InputError: `batch_size` is not a multiple of `devices`, or `examples` are fewer.
        """
        if batch_size % devices:
            raise InputError("batch_size", batch_size, f"a multiple of the {devices} devices")
        if examples < devices:
            raise InputError("examples", examples, f"at least one for each of {devices} devices")
        self.examples = examples
        self.batch_size = min(batch_size, examples // devices * devices)
        self.steps_per_epoch = examples // self.batch_size
        self._seed = seed
        self._epoch = -1
        self._order = np.empty(0, np.int32)

    def __call__(self, first: int, steps: int) -> np.ndarray:
        """Returns the indices of the batches from step `first` on: int32 [steps, batch_size]."""
        return np.stack([self._batch(step) for step in range(first, first + steps)])

    def _batch(self, step: int) -> np.ndarray:
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = np.random.default_rng([self._seed, epoch])
            self._order = self._new_order(generator)
            self._epoch = epoch
        return self._order[position * self.batch_size : (position + 1) * self.batch_size]

    def _new_order(self, generator: np.random.Generator) -> np.ndarray:
        return generator.permutation(self.examples).astype(np.int32)
