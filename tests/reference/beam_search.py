"""Beam search over document IDs in pure Python."""

import math


def dict_trie(rows):
    """Nested dicts code -> subtree; the last level's values are row numbers."""
    root = {}
    for number, row in enumerate(rows):
        node = root
        for code in row[:-1]:
            node = node.setdefault(code, {})
        node[row[-1]] = number
    return root


def beam_search(rows, log_probability, beams, renormalize=False):
    """[(row number, score)], best first, and the best score among the prefixes left out.

    `log_probability(prefix, code)` takes a tuple; with `renormalize`, it is divided among the codes
    that continue the prefix. Python's sort is stable: of equal scores, the earlier beam's child
    goes first, and of one beam's children the smaller code.
    """
    level, left_out = [((), 0.0, dict_trie(rows))], -math.inf
    for _ in rows[0]:
        candidates = []
        for prefix, score, subtree in level:
            gains = {code: log_probability(prefix, code) for code in sorted(subtree)}
            if renormalize:
                total = math.log(sum(map(math.exp, gains.values())))
                gains = {code: gain - total for code, gain in gains.items()}
            for code, gain in gains.items():
                candidates.append(((*prefix, code), score + gain, subtree[code]))
        candidates.sort(key=lambda candidate: -candidate[1])
        level = candidates[:beams]
        left_out = max([left_out, *(score for _, score, _ in candidates[beams:])])
    return [(row, score) for _, score, row in level], left_out
