"""Step 4: a unique document ID for every product."""

import numpy as np

from catid2_jax.config import Config
from catid2_jax.docids.collisions import collision_rate, resolve_collisions
from catid2_jax.docids.quality import codebook_usage
from catid2_jax.docids.table import DocidTable, read_docids, write_docids
from catid2_jax.errors import InputError
from catid2_jax.files import write_json
from catid2_jax.progress import console
from catid2_jax.steps.train_rqvae import load_trained
from catid2_jax.steps.workdir import Workdir
from catid2_jax.training.rqvae_evaluation import corpus_latents, nearest_codes


def run(config: Config, workdir: Workdir) -> None:
    """Writes `docids.jsonl`: by the trained RQ-VAE, or from the table that the user brings."""
    ids = workdir.embeddings.with_suffix(".ids.txt").read_text(encoding="utf-8").split("\n")[:-1]
    if config.docids.path:
        table = _align(read_docids(config.docids.path), ids, config)
        metrics = codebook_usage(table.codes, config.rqvae.codes)
    else:
        codes, metrics = _quantize_corpus(config, workdir)
        table = DocidTable(ids, codes)
    for name, value in metrics.items():
        console.print(f"  {name}: {value:.4g}")
    write_docids(workdir.docids, table)
    write_json(workdir.metrics("assign"), metrics)


def _quantize_corpus(config: Config, workdir: Workdir) -> tuple[np.ndarray, dict[str, float]]:
    """Unique codes [N, L] of the corpus, and what they were like before they were made unique."""
    embeddings = np.load(workdir.embeddings, allow_pickle=False)
    model, state = load_trained(config, workdir, embeddings.shape[1])
    latents = corpus_latents(model, state.params, state.constants(embeddings))
    codebooks = np.asarray(state.params["quantizer"]["codebooks"])
    nearest = nearest_codes(codebooks, latents)
    codes = resolve_collisions(latents, codebooks, nearest, config.docids.collisions)
    metrics = {
        "collision_rate": collision_rate(nearest),
        "documents_reassigned": float(np.mean((codes != nearest).any(axis=1))),
        **codebook_usage(nearest, config.rqvae.codes),
    }
    return codes, metrics


def _align(table: DocidTable, ids: list[str], config: Config) -> DocidTable:
    """The rows of a given table for the products of this catalogue, in its order."""
    path = config.docids.path
    shape = (config.rqvae.levels, config.rqvae.codes)
    if table.codes.shape[1] != shape[0] or table.codes.max() >= shape[1]:
        found = (table.codes.shape[1], int(table.codes.max()))
        raise InputError(
            f"{path}: found {found[0]} levels and codes up to {found[1]}, expected "
            f"rqvae.levels = {shape[0]} and codes below rqvae.codes = {shape[1]}"
        )
    rows = {product_id: row for row, product_id in enumerate(table.ids)}
    missing = [product_id for product_id in ids if product_id not in rows]
    if missing:
        raise InputError(
            f"{path}: found no document ID for {len(missing)} products, the first is "
            f"{missing[0]!r}; expected one for each"
        )
    return DocidTable(ids, table.codes[[rows[product_id] for product_id in ids]])
