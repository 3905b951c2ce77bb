"""Figures of the quality of document IDs, before any model is trained on them.

All but `quantization_error` need only the IDs, by whatever method, and a category tree or
embeddings to compare them with. Keys that end in `/level_l` are per level l of the ID, from 1. A
figure that cannot be computed (no pair of documents in a leaf, say) has no key.

Codes are int [N, L], with -1 after the last code of a shorter ID. Where prefixes are compared, -1
is a symbol of its own.
"""

import collections
import itertools

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import gammaln
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score
from sklearn.metrics.cluster import contingency_matrix
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize


def docid_quality(
    codes: np.ndarray,
    codebook_size: int,
    categories: np.ndarray | None = None,
    neighbors: np.ndarray | None = None,
) -> dict[str, float]:
    """Computes usage, agreement with categories and common prefixes, as the arguments allow.

    Args:
        codes: int [N, L], perhaps padded with -1.
        codebook_size: K.
        categories: int [N, H] from `category_ids`; -1 where a path is shorter. H may be 0.
        neighbors: int [P, 2] from `neighbor_pairs`.

    Returns:
        The figures by name, without nesting.
    """
    if categories is not None and not categories.shape[1]:
        categories = None
    return {
        **codebook_usage(codes, codebook_size),
        **(category_agreement(codes, categories) if categories is not None else {}),
        **common_prefixes(codes, categories, neighbors),
    }


def codebook_usage(codes: np.ndarray, codebook_size: int) -> dict[str, float]:
    """Measures how evenly each level uses its codes, over the documents whose IDs reach it.

    Args:
        codes: int [N, L], perhaps padded with -1.
        codebook_size: K.

    Returns:
        Per level l from 1 that an ID reaches: `perplexity/level_l`, exp of the usage's entropy (at
        most K), `codes_used/level_l`, the share of the K codes that occur, and
        `dead_codes/level_l`, the number of codes that do not.
    """
    usage: dict[str, float] = {}
    for level, padded in enumerate(codes.T, 1):
        column = padded[padded >= 0]
        if not column.size:
            continue
        share = np.bincount(column, minlength=codebook_size) / len(column)
        used = share[share > 0]
        usage[f"perplexity/level_{level}"] = float(np.exp(-np.sum(used * np.log(used))))
        usage[f"codes_used/level_{level}"] = float(np.mean(share > 0))
        usage[f"dead_codes/level_{level}"] = float(np.sum(share == 0))
    return usage


def quantization_error(
    latents: np.ndarray, codebooks: np.ndarray, codes: np.ndarray
) -> dict[str, float]:
    """Measures the error of l code vectors, as a share of the latents' variance.

    It is the mean of ||z - sum_{i <= l} e_{c^i}||^2 divided by that of ||z - mean z||^2: 1 is no
    better than one constant vector for all documents, and the scale of the latents, which differs
    from training to training, cancels. A shorter ID has a code vector less per level that it lacks.

    Args:
        latents: z, float [N, Z].
        codebooks: float [L, K, Z].
        codes: int [N, L], perhaps padded with -1.

    Returns:
        `quantization_error/level_l` per level l from 1.
    """
    variance = np.sum(np.var(latents, axis=0, dtype=np.float64))
    residuals = np.array(latents, np.float64)
    error: dict[str, float] = {}
    for level, (codebook, column) in enumerate(zip(codebooks, codes.T, strict=True), 1):
        present = column >= 0
        residuals[present] -= codebook[column[present]]
        left = np.mean(np.sum(residuals**2, axis=1))
        error[f"quantization_error/level_{level}"] = float(left / max(variance, 1e-12))
    return error


def category_agreement(codes: np.ndarray, categories: np.ndarray) -> dict[str, float]:
    """Measures how well prefixes of l codes predict the categories of level l (paired in Eq. 4).

    Purity and NMI rise with the mere number of prefixes: where every document has a prefix of its
    own, purity is 1 and NMI far above 0, even for random codes. Only AMI, which is 0 at chance, can
    be compared between levels, or between IDs of different perplexity.

    Args:
        codes: int [N, L], perhaps padded with -1.
        categories: int [N, H], the node of each path prefix; -1 where a path is shorter. A level
            leaves out the documents without a category there.

    Returns:
        Per level l up to min(H, L), unless no document has a category there:
        `category_purity/level_l`, the share of documents in the most frequent category of their
        prefix (Manning et al., Introduction to Information Retrieval, section 16.3);
        `category_nmi/level_l`, mutual information normalised by the mean of the two entropies, and
        `category_ami/level_l`, adjusted for chance too (Vinh et al., JMLR 2010). NMI and AMI are
        defined as in scikit-learn.
    """
    agreement: dict[str, float] = {}
    levels = zip(_prefix_ids(codes).T, categories.T, strict=False)
    for level, (prefixes, nodes) in enumerate(levels, 1):
        known = nodes >= 0
        if not known.any():
            continue
        table = contingency_matrix(nodes[known], prefixes[known], sparse=True)
        normalized, adjusted = _normalized_and_adjusted_information(table)
        agreement[f"category_purity/level_{level}"] = float(table.max(axis=0).sum() / table.sum())
        agreement[f"category_nmi/level_{level}"] = normalized
        agreement[f"category_ami/level_{level}"] = adjusted
    return agreement


def common_prefixes(
    codes: np.ndarray,
    categories: np.ndarray | None = None,
    neighbors: np.ndarray | None = None,
) -> dict[str, float]:
    """Averages the number of leading codes that two documents share.

    Similar documents should share more than others.

    Args:
        codes: int [N, L], perhaps padded with -1, which is no code.
        categories: int [N, H]; -1 where a path is shorter. A leaf is a whole path; documents
            without any category belong to none.
        neighbors: int [P, 2], pairs of documents that are near in the embedding space.

    Returns:
        `common_prefix/all_pairs`, the mean over all pairs of documents;
        `common_prefix/within_leaf` and `common_prefix/across_leaves`, the means over the pairs
        within a leaf and over those of two leaves; and `common_prefix/nearest_neighbors`, the mean
        over `neighbors`. The first three are exact, by counting groups.
    """
    prefixes, present = _prefix_ids(codes), codes >= 0
    shared, pairs = _shared_codes(prefixes, present), _count_pairs(np.zeros(len(codes), np.int64))
    sums = {"all_pairs": (shared, pairs)}
    if categories is not None:
        known = categories[:, 0] >= 0
        leaves = _prefix_ids(categories[known])[:, -1]
        everywhere = (
            _shared_codes(prefixes[known], present[known]),
            _count_pairs(np.zeros_like(leaves)),
        )
        # One number for a leaf and a prefix: documents that share it share both.
        grouped = leaves[:, None] * (prefixes.max(initial=0) + 1) + prefixes[known]
        within = _shared_codes(grouped, present[known]), _count_pairs(leaves)
        sums["within_leaf"] = within
        sums["across_leaves"] = everywhere[0] - within[0], everywhere[1] - within[1]
    if neighbors is not None:
        first, second = neighbors.T
        equal = (prefixes[first] == prefixes[second]) & present[first]
        sums["nearest_neighbors"] = int(equal.sum()), len(neighbors)
    return {
        f"common_prefix/{name}": shared / pairs for name, (shared, pairs) in sums.items() if pairs
    }


def neighbor_pairs(
    embeddings: np.ndarray, documents: int = 1000, neighbors: int = 10, seed: int = 0
) -> np.ndarray:
    """Pairs sampled documents with each of their nearest others, by cosine.

    Args:
        embeddings: float [N, D]; rows of zeros have no direction and are left out.
        documents: number of documents to sample, without replacement.
        neighbors: number of others per document; fewer in a smaller catalogue.
        seed: seed of the sample.

    Returns:
        int64 [P, 2], rows of `embeddings`, the sampled document first.
    """
    rows = np.flatnonzero(embeddings.any(axis=1))
    if rows.size == 0:
        return np.zeros((0, 2), np.int64)
    count = min(neighbors + 1, len(rows))  # the document itself and the others
    directions = normalize(embeddings[rows], copy=False)
    generator = np.random.default_rng(seed)
    sample = generator.choice(len(rows), min(documents, len(rows)), replace=False)
    # The nearest of unit vectors are those of the largest cosine.
    search = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(directions)
    found = search.kneighbors(directions[sample], return_distance=False)
    others = found != sample[:, None]
    # Where many documents are equal, one need not be among its own nearest.
    others[others.all(axis=1), -1] = False
    return np.stack([rows[np.repeat(sample, count - 1)], rows[found[others]]], axis=1)


def _prefix_ids(codes: np.ndarray) -> np.ndarray:
    """Numbers the distinct prefixes of each length: int64 [N, L], from 0 in every column.

    -1, in IDs or category paths that have ended, is a symbol like the others.
    """
    base = int(codes.max(initial=0)) + 2
    prefixes = np.zeros(codes.shape, np.int64)
    parent = np.zeros(len(codes), np.int64)
    for level, column in enumerate(codes.T):
        parent = np.unique(parent * base + column + 1, return_inverse=True)[1].ravel()
        prefixes[:, level] = parent
    return prefixes


def _count_pairs(groups: np.ndarray) -> int:
    """Counts the pairs of documents in the same group; groups [N]."""
    sizes = np.unique(groups, return_counts=True)[1]
    return int(np.sum(sizes * (sizes - 1) // 2))


def _shared_codes(prefixes: np.ndarray, present: np.ndarray) -> int:
    """Sums the common prefix lengths of all pairs of documents.

    The sum counts the pairs that share at least 1 code, at least 2 and so on.

    Args:
        prefixes: int [N, L], equal numbers in column l for equal prefixes of l codes.
        present: booleans [N, L], whether the ID has a code of the level.
    """
    columns = zip(prefixes.T, present.T, strict=True)
    return sum(_count_pairs(column[reaches]) for column, reaches in columns)


def _normalized_and_adjusted_information(table: csr_matrix) -> tuple[float, float]:
    """Computes NMI and AMI of a contingency table; 1 for undefined ones, as in scikit-learn.

    `sklearn.metrics.adjusted_mutual_info_score` takes minutes on 300,000 prefixes, since it visits
    every cell of the table. Chance depends on the groups' sizes alone, of which few are distinct.
    """
    rows, columns = (np.ravel(table.sum(axis=axis)) for axis in (1, 0))
    information = float(mutual_info_score(None, None, contingency=table))
    mean_entropy = float(entropy(rows) + entropy(columns)) / 2
    expected = _expected_information(rows, columns)
    possible = mean_entropy - expected
    return (
        information / mean_entropy if mean_entropy > 0 else 1.0,
        (information - expected) / possible if possible > 1e-9 else 1.0,
    )


def _expected_information(rows: np.ndarray, columns: np.ndarray) -> float:
    """Computes the mean mutual information, in nats, of random partitions with these group sizes.

    Vinh et al., JMLR 2010, Eq. 24a: groups of a and b documents have n in common with the
    hypergeometric probability.
    """
    total = int(rows.sum())
    factorial = gammaln(np.arange(1.0, total + 2))  # log of n! at index n
    expected = 0.0
    sizes = (collections.Counter(groups.tolist()).items() for groups in (rows, columns))
    for (a, many_a), (b, many_b) in itertools.product(*sizes):
        n = np.arange(max(1, a + b - total), min(a, b) + 1)
        log_probability = (
            (factorial[a] + factorial[b] + factorial[total - a] + factorial[total - b])
            - (factorial[total] + factorial[n] + factorial[a - n] + factorial[b - n])
            - factorial[total - a - b + n]
        )
        terms = np.exp(log_probability) * n / total * np.log(n * (total / (a * b)))
        expected += float(many_a * many_b * terms.sum())
    return expected
