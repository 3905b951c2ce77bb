"""Step 4: a unique document ID for every product."""

import dataclasses
import functools
import pathlib
import shutil

import numpy as np

from catid2_jax.config import Config
from catid2_jax.docids.collisions import collision_rate, resolve_collisions
from catid2_jax.docids.living import read_resting, resting_path, update_docids, write_resting
from catid2_jax.docids.quality import codebook_usage, quantization_error
from catid2_jax.docids.table import DocidTable, read_docids, write_docids
from catid2_jax.errors import InputError
from catid2_jax.files import write_json
from catid2_jax.processes import first_alone
from catid2_jax.progress import console
from catid2_jax.steps.train_rqvae import load_trained
from catid2_jax.steps.workdir import Workdir, read_record
from catid2_jax.schemes.rqvae.evaluation import corpus_latents, nearest_codes


@dataclasses.dataclass(frozen=True)
class Quantized:
    """The corpus as stage 1 sees it.

    Attributes:
        latents: z, float32 [N, Z].
        codebooks: float32 [L, K, Z].
        nearest: nearest codes, int32 [N, L].
    """

    latents: np.ndarray
    codebooks: np.ndarray
    nearest: np.ndarray


def run(config: Config, workdir: Workdir) -> None:
    """Writes `docids.jsonl`: by the trained RQ-VAE, or from the table that the user brings."""
    ids = workdir.embeddings.with_suffix(".ids.txt").read_text(encoding="utf-8").split("\n")[:-1]
    metrics: dict[str, float] = {}
    if config.docids.path:
        table = _align(_read_fitting(config.docids.path, config), ids, config.docids.path)
    elif config.docids.previous:
        table, metrics = _update(config, workdir, ids)
    else:
        corpus = _quantize_corpus(config, workdir)
        codes = resolve_collisions(
            corpus.latents, corpus.codebooks, corpus.nearest, config.docids.collisions
        )
        table = DocidTable(ids, codes, corpus.nearest)
        metrics = _figures(corpus, codes, config.rqvae.codebook_size)
    for name, value in metrics.items():
        console.print(f"  {name}: {value:.4g}")
    write_docids(workdir.docids, table)
    write_json(workdir.metrics("assign"), metrics)


def _quantize_corpus(config: Config, workdir: Workdir) -> Quantized:
    embeddings = np.load(workdir.embeddings, allow_pickle=False)
    model, state = load_trained(config, workdir, embeddings.shape[1], config.docids.checkpoint)
    latents = corpus_latents(model, state.params, state.constants(embeddings))
    codebooks = np.asarray(state.params["quantizer"]["codebooks"])
    return Quantized(latents, codebooks, nearest_codes(codebooks, latents))


def _figures(corpus: Quantized, codes: np.ndarray, codebook_size: int) -> dict[str, float]:
    """What uniqueness costs; `evaluate` measures the IDs themselves."""
    before = {
        **codebook_usage(corpus.nearest, codebook_size),
        **quantization_error(corpus.latents, corpus.codebooks, corpus.nearest),
    }
    return {
        "collision_rate": collision_rate(corpus.nearest),
        "documents_reassigned": float(np.mean((codes != corpus.nearest).any(axis=1))),
        **quantization_error(corpus.latents, corpus.codebooks, codes),
        **{f"before_reassignment/{name}": value for name, value in before.items()},
    }


def _update(
    config: Config, workdir: Workdir, ids: list[str]
) -> tuple[DocidTable, dict[str, float]]:
    """IDs of the catalogue as it is now, from those of an earlier state and its stage 1."""
    if config.embedding.encoder == "lsa":
        raise InputError(
            "config.embedding.encoder is 'lsa', which is fitted to each catalogue anew: expected "
            "an encoder that gives a product the same vector, with docids.previous"
        )
    path = _of_variant(pathlib.Path(config.docids.previous), workdir.variant)
    previous = _read_fitting(path, config)
    resting = read_resting(resting_path(path), previous)
    _check_codes(resting.codes, resting_path(path), config)
    first_alone(functools.partial(_bring_stage_1, path.parent / "rqvae", workdir))
    corpus = _quantize_corpus(config, workdir)
    table, resting, counts = update_docids(
        previous,
        resting,
        ids,
        corpus.latents,
        corpus.codebooks,
        corpus.nearest,
        config.docids.collisions,
        config.docids.grace,
    )
    # Before the table: without the record of this step, both are written again.
    write_resting(resting_path(workdir.docids), resting)
    return table, {**counts, **_figures(corpus, table.codes, config.rqvae.codebook_size)}


def _of_variant(docids: pathlib.Path, variant: str) -> pathlib.Path:
    """A baseline goes on from its own table, which lies beside the configured one."""
    return docids.parent / variant / docids.name


def _bring_stage_1(source: pathlib.Path, workdir: Workdir) -> None:
    """Copies the checkpoints of the stage 1 that made the previous IDs, whole or not at all."""
    target = workdir.checkpoints("rqvae")
    if read_record(workdir.record("train_rqvae")):
        raise InputError(
            f"{target}: found a stage 1 trained here, expected none with docids.previous: give "
            "another --workdir"
        )
    if not source.exists():
        raise InputError(f"{source}: found no stage 1, expected the one of docids.previous")
    if target.exists():
        return
    unfinished = target.with_suffix(".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(source, unfinished)
    unfinished.rename(target)


def _read_fitting(path: str | pathlib.Path, config: Config) -> DocidTable:
    table = read_docids(path)
    _check_codes(table.codes, path, config)
    return table


def _check_codes(codes: np.ndarray, path: str | pathlib.Path, config: Config) -> None:
    """Raises InputError unless the codes are of the configured L and K."""
    levels, codebook_size = config.rqvae.levels, config.rqvae.codebook_size
    if codes.shape[1] != levels or codes.max(initial=0) >= codebook_size:
        raise InputError(
            f"{path}: found {codes.shape[1]} levels and codes up to {codes.max()}, expected "
            f"rqvae.levels = {levels} and codes below rqvae.codebook_size = {codebook_size}"
        )


def _align(table: DocidTable, ids: list[str], path: str) -> DocidTable:
    """The rows of a given table for the products of this catalogue, in its order."""
    rows = {product_id: row for row, product_id in enumerate(table.ids)}
    missing = [product_id for product_id in ids if product_id not in rows]
    if missing:
        raise InputError(
            f"{path}: found no document ID for {len(missing)} products, the first is "
            f"{missing[0]!r}; expected one for each"
        )
    order = [rows[product_id] for product_id in ids]
    nearest = table.codes if table.nearest is None else table.nearest
    return DocidTable(ids, table.codes[order], nearest[order])
