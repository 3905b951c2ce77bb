"""Figure 4: what the encoder of stage 1 makes of the products of a few categories, by t-SNE."""

import collections
from collections.abc import Sequence

import numpy as np
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from catid2_jax.errors import InputError
from catid2_jax.files import read_npy
from catid2_jax.reporting.comparison import Comparison
from catid2_jax.reporting.flow import chosen_categories
from catid2_jax.reporting.page import Charts, Points, Prose, Section
from catid2_jax.reporting.runs import SystemRun, rows_in
from catid2_jax.schemes.rqvae.evaluation import corpus_latents
from catid2_jax.schemes.rqvae.scheme import CHECKPOINTS
from catid2_jax.schemes.rqvae.training import load_rqvae

CATEGORIES = 4
_PERPLEXITY = 30.0
_FEWEST = 5  # points of which a map can be made


def section(comparison: Comparison) -> Section:
    """A map per system that is shown, and one of the embeddings that all started from."""
    title = "Products as the encoder sees them (Figure 4)"
    main, config = comparison.main, comparison.config
    rows, names, whole = chosen_products(
        main.catalog.paths, config.categories, config.documents, config.seed
    )
    ids = [main.catalog.ids[row] for row in rows]
    found = {label: latents(run, ids) for label, run in comparison.shown}
    vectors = {label: array for label, array in found.items() if array is not None}
    path = main.workdir.root / "embeddings.npy"
    if path.exists():
        vectors = {"embeddings": np.asarray(read_npy(path, memory_mapped=True)[rows]), **vectors}
    if not vectors or len(rows) < _FEWEST:
        return Section(title, [Prose("There are no vectors of enough products here.")])
    titles = [main.catalog.titles[row] for row in rows]
    charts = [
        Points(f"figure4-{number}", label, _groups(t_sne(array, config.seed), names, titles))
        for number, (label, array) in enumerate(vectors.items())
    ]
    sample = f"all {whole:,}"
    if len(rows) < whole:
        sample = f"{len(rows):,} of the {whole:,}, drawn at random with that seed,"
    about = (
        f"t-SNE (perplexity {_PERPLEXITY:.0f}, seed {config.seed}) of {sample} products of these "
        "categories: of the embeddings, and of the latent vectors that a system's encoder makes "
        "of them. Distances between groups and their sizes mean little in such maps; what counts "
        "is whether a category stays together and its products apart."
    )
    return Section(title, [Prose(about), Charts(charts)])


def chosen_products(
    paths: Sequence[tuple[str, ...]], wanted: str, documents: int, seed: int
) -> tuple[np.ndarray, list[str], int]:
    """Draws products of the categories that are asked for, or of the largest.

    Args:
        paths: category path of each product.
        wanted: paths of categories with semicolons between; empty for the four largest.
        documents: the most products.
        seed: seed of the draw.

    Returns:
        int64, rows of the products in order; the category of each; and of how many they are.

    Raises:
        InputError: a category that no product has.
    """
    if wanted:
        chosen = [tuple(p.strip() for p in text.split(">")) for text in wanted.split(";")]
    else:
        nodes, level = chosen_categories(list(paths), CATEGORIES)
        counts = collections.Counter(nodes[nodes >= 0].tolist())
        first = {int(node): paths[row][: level + 1] for row, node in enumerate(nodes) if node >= 0}
        chosen = [first[node] for node, _ in counts.most_common(CATEGORIES)]
    owner = np.full(len(paths), -1)
    for number, category in enumerate(chosen):
        members = [row for row, path in enumerate(paths) if path[: len(category)] == category]
        if not members:
            raise InputError("categories", " > ".join(category), "a category of the catalogue")
        owner[members] = number
    rows = np.flatnonzero(owner >= 0)
    whole = len(rows)
    if whole > documents:
        rows = np.sort(np.random.default_rng(seed).choice(rows, documents, replace=False))
    return rows, [" > ".join(chosen[owner[row]]) for row in rows], whole


def latents(run: SystemRun, ids: Sequence[str]) -> np.ndarray | None:
    """The latent vectors of products by a system's encoder, [n, Z]; None if it has none."""
    directory, rows = run.place.folder / CHECKPOINTS, rows_in(run, ids)
    if rows is None or not directory.exists():
        return None
    embeddings = np.asarray(read_npy(run.place.embeddings, memory_mapped=True)[rows])
    model, state = load_rqvae(
        run.config.rqvae,
        run.config.rqvae_training,
        embeddings.shape[1],
        directory,
        run.config.docids.checkpoint,
    )
    return corpus_latents(model, state.params, state.constants(embeddings))


def t_sne(vectors: np.ndarray, seed: int) -> np.ndarray:
    """Places of vectors on a map, [n, 2] (van der Maaten and Hinton, 2008)."""
    perplexity = min(_PERPLEXITY, (len(vectors) - 1) / 3)
    # Its steps are so short that threads mostly wait for each other: one is many times faster.
    with threadpool_limits(1):
        found = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(vectors)
    return np.asarray(found)


def _groups(
    places: np.ndarray, names: Sequence[str], titles: Sequence[str]
) -> dict[str, list[tuple[float, float, str]]]:
    groups: dict[str, list[tuple[float, float, str]]] = {}
    for (x, y), name, title in zip(places.tolist(), names, titles, strict=True):
        groups.setdefault(name, []).append((x, y, title))
    return dict(sorted(groups.items()))
