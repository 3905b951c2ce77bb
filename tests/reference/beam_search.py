"""Beam search over document IDs in pure Python."""


def dict_trie(rows):
    """Nested dicts code -> subtree; the last level's values are row numbers."""
    root = {}
    for number, row in enumerate(rows):
        node = root
        for code in row[:-1]:
            node = node.setdefault(code, {})
        node[row[-1]] = number
    return root


def beam_search(rows, log_probability, beams):
    """[(row number, score)], best first; `log_probability(prefix, code)` takes a tuple.

    Python's sort is stable: of equal scores, the earlier beam's child goes first, and of one
    beam's children the smaller code.
    """
    level = [((), 0.0, dict_trie(rows))]
    for _ in rows[0]:
        candidates = [
            ((*prefix, code), score + log_probability(prefix, code), subtree[code])
            for prefix, score, subtree in level
            for code in sorted(subtree)
        ]
        level = sorted(candidates, key=lambda candidate: -candidate[1])[:beams]
    return [(row, score) for _, score, row in level]
