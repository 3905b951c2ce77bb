"""Stage 1 by an RQ-VAE (Eq. 8): training, unique IDs, and IDs of a catalogue that changes."""

import dataclasses
import functools
import pathlib
import shutil

import numpy as np

from catid2_jax.data.corpus import Corpus
from catid2_jax.docids.collisions import check_room
from catid2_jax.docids.living import read_resting, resting_path, update_docids, write_resting
from catid2_jax.docids.table import DocidTable, read_docids
from catid2_jax.errors import InputError
from catid2_jax.files import atomic_folder
from catid2_jax.losses import LossWeights
from catid2_jax.models.rqvae import RQVAEConfig
from catid2_jax.processes import first_alone
from catid2_jax.schemes.config import RQVAE_TRAINING, DocidsConfig
from catid2_jax.schemes.quantized import Quantized, quantization_figures, unique_docids
from catid2_jax.schemes.rqvae.evaluation import corpus_latents, nearest_codes
from catid2_jax.schemes.rqvae.training import load_rqvae, train_rqvae
from catid2_jax.schemes.scheme import Run
from catid2_jax.training.optimizer import TrainingConfig

CHECKPOINTS = "rqvae"
"""Name of the folder of stage 1's checkpoints."""

_PREVIOUS = "previous.txt"  # in a copied stage 1: where it comes from


@dataclasses.dataclass(frozen=True)
class RQVAEScheme:
    """Residual quantisation of a learnt latent, then one ID per document by reassignment.

    Attributes:
        rqvae: shape of the network and how it starts.
        loss_weights: weights of the terms of Eq. 8; they make CAT-ID2, TIGER or CoST of it.
        rqvae_training: optimizer, batches and epochs.
        docids: which state assigns, how collisions are resolved, and an earlier state to continue.
    """

    rqvae: RQVAEConfig = RQVAEConfig()
    loss_weights: LossWeights = LossWeights()
    rqvae_training: TrainingConfig = RQVAE_TRAINING
    docids: DocidsConfig = DocidsConfig()

    def fit(self, corpus: Corpus, run: Run) -> DocidTable:
        """Trains the RQ-VAE and assigns unique IDs, or goes on from an earlier catalogue's."""
        check_room(len(corpus), self.rqvae.levels, self.rqvae.codebook_size)
        if self.docids.previous:
            return self._update(corpus, run)
        directory = run.directory / CHECKPOINTS
        train_rqvae(corpus, self.rqvae, self.loss_weights, self.rqvae_training, directory, run.seed)
        found = self._quantize(corpus, run)
        return unique_docids(corpus, found, self.docids.collisions, run.figures)

    def _quantize(self, corpus: Corpus, run: Run) -> Quantized:
        embeddings = np.asarray(corpus.embeddings)
        model, state = load_rqvae(
            self.rqvae,
            self.rqvae_training,
            embeddings.shape[1],
            run.directory / CHECKPOINTS,
            self.docids.checkpoint,
        )
        latents = corpus_latents(model, state.params, state.constants(embeddings))
        codebooks = np.asarray(state.params["quantizer"]["codebooks"])
        nearest = nearest_codes(codebooks, latents, self.rqvae.code_shrinkage)
        return Quantized(latents, codebooks, nearest)

    def _update(self, corpus: Corpus, run: Run) -> DocidTable:
        """IDs of the catalogue as it is now, from an earlier state's IDs and stage 1."""
        place = pathlib.Path(self.docids.previous) / run.name
        path = place / "docids.jsonl"
        previous = read_docids(path, self.rqvae.codebook_size)
        resting = read_resting(resting_path(path), previous)
        if previous.levels != self.rqvae.levels:
            raise InputError(
                path, f"IDs of {previous.levels} codes", f"levels = {self.rqvae.levels} codes"
            )
        if resting.codes.max(initial=-1) >= previous.codebook_size:
            raise InputError(
                resting_path(path),
                f"code {resting.codes.max()}",
                f"0 to codebook_size - 1 = {previous.codebook_size - 1}",
            )
        first_alone(functools.partial(_bring, place / CHECKPOINTS, run.directory / CHECKPOINTS))
        found = self._quantize(corpus, run)
        table, resting, counts = update_docids(
            previous,
            resting,
            corpus.catalog.ids,
            found.latents,
            found.codebooks,
            found.nearest,
            self.docids.collisions,
            self.docids.grace,
        )
        # Before the table: where that is missing, both are written again.
        write_resting(resting_path(run.directory / "docids.jsonl"), resting)
        run.figures.update(counts)
        run.figures.update(quantization_figures(found, table.codes))
        return table


def _bring(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copies the stage 1 that made the previous IDs, whole or not at all."""
    if target.exists() and not (target / _PREVIOUS).exists():
        raise InputError(
            target, "a stage 1 trained here", "none, since an earlier one is continued"
        )
    if not source.exists():
        raise InputError(source, "no stage 1", "that of the previous work directory")
    if target.exists():
        return
    with atomic_folder(target) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)
        (folder / _PREVIOUS).write_text(f"{source}\n", encoding="utf-8")
