"""Has all processes of a training stop after the same step when one of them gets a signal."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from catid2_jax.signals import DeferredSignals


class StopVote:
    """Whether a training is to stop. Of several processes, each votes with every dispatch.

    The votes travel with the dispatch, for collective operations must run in one order everywhere;
    they count once the next dispatch is under way, so that nobody waits for them.

    Attributes:
        alone: whether this is the only process; it needs no votes.
    """

    def __init__(self, signals: DeferredSignals, mesh: Mesh) -> None:
        self.alone = jax.process_count() == 1
        self._signals, self._mesh = signals, mesh
        self._last: jax.Array | None = None
        self._before: jax.Array | None = None

    def votes(self) -> jax.Array | None:
        """This process's vote on each of its devices, bool [devices], for a dispatch."""
        if self.alone:
            return None
        votes = np.full(self._mesh.size, self._signals.received is not None)
        sharding = NamedSharding(self._mesh, PartitionSpec(self._mesh.axis_names))
        return jax.make_array_from_callback(votes.shape, sharding, lambda index: votes[index])

    def take(self, outcome: jax.Array | None) -> None:
        """Takes the outcome of a dispatch, whether any vote was for stopping."""
        self._before, self._last = self._last, outcome

    def __call__(self) -> bool:
        """Whether the training stops here."""
        if self.alone:
            return self._signals.received is not None
        return self._before is not None and bool(self._before)
