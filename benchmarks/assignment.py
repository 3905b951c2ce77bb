r"""Unique document IDs at scale: time beside that of encoding, peak memory, added error, linearity.

    python benchmarks/assignment.py [--documents 386392] [--codebook_size 256 512] \
        [--curve 10000 100000 1000000 4000000]

Latents are synthetic: a mixture of 20,000 Gaussians of unlike weights, and a tail of exact and
near duplicates, some in crowds. Codebooks are k-means centroids of their residuals. Assignment is
what follows encoding: nearest codes, then unique ones, compilation included, in a process of its
own whose peak memory is read. Encoding is the package's own encoder of the paper's size over random
embeddings, without compilation, for some of the documents, and scaled up. The two take turns. The
least added error is that of an optimal assignment of the documents that collide under one prefix to
the last codes that are free there. Prints Markdown.
"""

import argparse
import concurrent.futures
import multiprocessing
import pathlib
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import MiniBatchKMeans

from catid2_jax.docids.collisions import CollisionConfig, collision_rate, resolve_collisions
from catid2_jax.models.rqvae import RQVAE, RQVAEConfig
from catid2_jax.schemes.rqvae.evaluation import corpus_latents, nearest_codes

LEVELS, WIDTH, EMBEDDING = 4, 32, 768
CLUSTERS = 20_000
COPIES = 0.04  # share of the documents that are exact or near duplicates of another


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=386_392)
    parser.add_argument("--codebook_size", type=int, nargs="*", default=[256, 512])
    parser.add_argument("--curve", type=int, nargs="*", default=[10**4, 10**5, 10**6, 4 * 10**6])
    parser.add_argument("--encoded", type=int, default=65_536, help="documents that are encoded")
    parser.add_argument("--rounds", type=int, default=2, help="turns of encoding and assignment")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        place = pathlib.Path(directory)
        if arguments.codebook_size:
            beside_encoding(arguments, place)
        if arguments.curve:
            curve(arguments.curve, place)


def beside_encoding(arguments: argparse.Namespace, place: pathlib.Path) -> None:
    """The table of time, memory and added error for a corpus of the paper's size."""
    print_row(
        "documents",
        "K",
        "collide",
        "nearest codes",
        "unique codes",
        "encoding",
        "assignment / encoding",
        "peak memory",
        "least added error",
        "added beyond it",
    )
    print("|---" * 10 + "|")
    for codebook_size in arguments.codebook_size:
        apart(make_data, place, arguments.documents, codebook_size)
        encoding, assignment = [], []
        for _ in range(arguments.rounds):
            seconds = apart(encode, arguments.encoded)
            encoding.append(seconds / arguments.encoded * arguments.documents)
            assignment.append(apart(assign, place))
        nearest, unique = (
            statistics.median(run[name] for run in assignment) for name in ("nearest", "unique")
        )
        whole = statistics.median(encoding)
        added, least, before = apart(added_error, place)
        print_row(
            f"{arguments.documents:,}",
            f"{codebook_size}",
            f"{assignment[0]['collisions']:.1%}",
            f"{nearest:.1f} s",
            f"{unique:.1f} s",
            f"{whole:.1f} s",
            f"{(nearest + unique) / whole:.2f}",
            f"{max(run['memory'] for run in assignment):.2f} GiB",
            f"{least / before:.1%}",
            f"{added / least - 1:.4%}",
        )


def curve(sizes: list[int], place: pathlib.Path) -> None:
    """The table of time and memory over the number of documents."""
    print(f"\nK = 256, L = {LEVELS}, compilation included.\n")
    print_row("documents", "collide", "seconds", "peak memory", "s per million", "of the last's")
    print("|---" * 6 + "|")
    rows = []
    for documents in sizes:
        apart(make_data, place, documents, 256)
        rows.append(apart(assign, place))
    seconds = [row["nearest"] + row["unique"] for row in rows]
    for documents, row, spent in zip(sizes, rows, seconds, strict=True):
        print_row(
            f"{documents:,}",
            f"{row['collisions']:.1%}",
            f"{spent:.1f}",
            f"{row['memory']:.2f} GiB",
            f"{spent / documents * 1e6:.1f}",
            f"{spent / documents / (seconds[-1] / sizes[-1]):.2f}",
        )


def print_row(*cells: str) -> None:
    """A row of a Markdown table."""
    print(f"| {' | '.join(cells)} |", flush=True)


def apart(function: Any, *arguments: Any) -> Any:
    """The result of a function in a fresh process, so that its peak memory is its own."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as executor:
        return executor.submit(function, *arguments).result()


def make_data(place: pathlib.Path, documents: int, codebook_size: int) -> None:
    """Writes latents.npy [N, Z] and codebooks.npy [L, K, Z]."""
    generator = np.random.default_rng(0)
    spectrum = (np.arange(1, WIDTH + 1) ** -0.5).astype(np.float32)
    spectrum /= np.sqrt(np.mean(spectrum**2))
    centers = generator.normal(size=(CLUSTERS, WIDTH)).astype(np.float32) * spectrum
    weights = np.arange(1, CLUSTERS + 1) ** -0.7
    copies = int(COPIES * documents)
    own = documents - copies
    latents = centers[generator.choice(CLUSTERS, own, p=weights / weights.sum())]
    latents += 0.5 * spectrum * generator.standard_normal((own, WIDTH), np.float32)

    crowds = np.minimum(generator.zipf(2.0, copies), 2000)
    crowds = crowds[: np.searchsorted(np.cumsum(crowds), copies) + 1]
    sources = np.repeat(generator.integers(own, size=len(crowds)), crowds)[:copies]
    duplicates = latents[sources]
    near = generator.random(copies) < 0.5
    duplicates[near] += 1e-3 * generator.standard_normal((near.sum(), WIDTH), np.float32)
    latents = np.concatenate([latents, duplicates])[generator.permutation(documents)]
    np.save(place / "latents.npy", latents)

    residuals, codebooks = latents[:65_536], []
    for _ in range(LEVELS):
        means = MiniBatchKMeans(
            codebook_size, random_state=0, n_init=1, batch_size=4096, max_iter=20
        )
        nearest = means.fit_predict(residuals)
        codebooks.append(means.cluster_centers_.astype(np.float32))
        residuals = residuals - codebooks[-1][nearest]
    np.save(place / "codebooks.npy", np.stack(codebooks))


def assign(place: pathlib.Path) -> dict[str, float]:
    """Assigns IDs; seconds of both parts, peak memory in GiB, share of documents that collide."""
    latents, codebooks = np.load(place / "latents.npy"), np.load(place / "codebooks.npy")
    start = time.perf_counter()
    nearest = nearest_codes(codebooks, latents)
    middle = time.perf_counter()
    unique = resolve_collisions(latents, codebooks, nearest, CollisionConfig())
    end = time.perf_counter()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    np.save(place / "nearest.npy", nearest)
    np.save(place / "unique.npy", unique)
    if collision_rate(unique):
        raise SystemExit("found two documents with one ID")
    collisions = collision_rate(nearest)
    return {
        "nearest": middle - start,
        "unique": end - middle,
        "memory": memory,
        "collisions": collisions,
    }


def encode(documents: int) -> float:
    """Seconds of the encoder of the paper's size, compiled before."""
    model = RQVAE(RQVAEConfig(latent_dim=WIDTH), EMBEDDING)
    params = model.init(jax.random.key(0), jnp.zeros((1, EMBEDDING)))["params"]
    embeddings = np.random.default_rng(0).standard_normal((documents, EMBEDDING), np.float32)
    corpus_latents(model, params, embeddings[:4096])
    start = time.perf_counter()
    corpus_latents(model, params, embeddings)
    return time.perf_counter() - start


def added_error(place: pathlib.Path) -> tuple[float, float, float]:
    """Squared error that uniqueness adds at the last level.

    Returns:
        Sums over the documents that had to be reassigned there: what was added, the least that
        could have been, and their error at the nearest codes.
    """
    latents, codebooks = np.load(place / "latents.npy"), np.load(place / "codebooks.npy")
    nearest, unique = np.load(place / "nearest.npy"), np.load(place / "unique.npy")
    added = least = before = 0.0
    for cost, chosen in last_level_groups(latents, codebooks, nearest, unique):
        start = cost.min(axis=1).sum()
        before += start
        added += cost[np.arange(len(cost)), chosen].sum() - start
        least += cost[linear_sum_assignment(cost)].sum() - start
    return added, least, before


def last_level_groups(
    latents: np.ndarray, codebooks: np.ndarray, nearest: np.ndarray, unique: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Per prefix: costs [R, free codes] of the documents that collide, and their columns now."""
    prefix = np.unique(unique[:, :-1], axis=0, return_inverse=True)[1].ravel()
    # Documents with another prefix than the nearest have another nearest last code too.
    last = nearest[:, -1].copy()
    moved = np.flatnonzero((nearest[:, :-1] != unique[:, :-1]).any(axis=1))
    for row in moved:
        residual = latents[row] - sum(
            book[c] for book, c in zip(codebooks, unique[row, :-1], strict=False)
        )
        last[row] = np.argmin(np.sum((residual - codebooks[-1]) ** 2, axis=1))
    cell = np.unique(np.stack([prefix, last], 1), axis=0, return_inverse=True, return_counts=True)
    alone = np.unique(nearest, axis=0, return_inverse=True, return_counts=True)
    colliding = (cell[2][cell[1].ravel()] > 1) & (alone[2][alone[1].ravel()] > 1)
    order = np.argsort(prefix, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(prefix[order])) + 1):
        group = rows[colliding[rows]]
        if group.size == 0:
            continue
        held = unique[rows[~colliding[rows]], -1]
        free = np.setdiff1d(np.arange(codebooks.shape[1]), held)
        vectors = sum(
            book[c].astype(np.float64) for book, c in zip(codebooks, unique[rows[0]], strict=True)
        )
        residuals = latents[group] - (vectors - codebooks[-1][unique[rows[0], -1]])
        cost = np.sum((residuals[:, None] - codebooks[-1][free][None]) ** 2, axis=2)
        yield cost, np.searchsorted(free, unique[group, -1])


if __name__ == "__main__":
    main()
