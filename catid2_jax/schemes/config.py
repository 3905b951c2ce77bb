"""Where document IDs come from: the configuration's section `docids`."""

import dataclasses

from catid2_jax.constraints import LocalPath, NonNegativeInt, check_fields
from catid2_jax.docids.collisions import CollisionConfig
from catid2_jax.errors import InputError
from catid2_jax.training.checkpoint import Which
from catid2_jax.training.optimizer import TrainingConfig

RQVAE_TRAINING = TrainingConfig(
    batch_size=0,
    epochs=0,
    steps=3000,
    warmup_steps=100,
    schedule="inverse_sqrt",
    checkpoint_every=500,
    evaluate_every=250,
    best_metric="reconstruction_cosine",
    best_margin=0.002,
    patience=2,
)
"""Stage 1 in steps to a plateau, for a catalogue of any size."""


@dataclasses.dataclass(frozen=True)
class DocidsConfig:
    """Where document IDs come from.

    Attributes:
        path: a docids.jsonl made elsewhere, for this catalogue; for the system "given".
        path_codebook_size: K of the IDs in `path`; 0 for one more than their largest code.
        previous: work directory of an earlier state of this catalogue: the stage 1 that the system
            has there is used again, and unchanged products keep their IDs (see `docids.living`).
            Empty to train stage 1.
        grace: updates for which the ID of a product that is gone or has changed rests before
            another product may have it; the default is a week of daily updates.
        checkpoint: the state of stage 1 that assigns IDs: the "last", or the "best" by
            `rqvae_training.best_metric`.
        collisions: how documents of the same codes get different ones, see `CollisionConfig`.
    """

    path: LocalPath = ""
    path_codebook_size: NonNegativeInt = 0
    previous: LocalPath = ""
    grace: NonNegativeInt = 7
    checkpoint: Which = "last"
    collisions: CollisionConfig = CollisionConfig()

    def __post_init__(self) -> None:
        check_fields(self)
        if self.path and self.previous:
            raise InputError(
                "previous", f"{self.previous!r} beside path {self.path!r}", "one of them at most"
            )


def refuse_previous(docids: DocidsConfig) -> None:
    """Raises InputError where an earlier state is to be continued, for schemes that cannot."""
    if docids.previous:
        raise InputError(
            "previous", repr(docids.previous), "'', for this scheme gives all documents new IDs"
        )
