import numpy as np
import pytest

from catid2_jax.docids.quality import codebook_usage


def test_perplexity_and_share_by_hand():
    usage = codebook_usage(np.array([[0, 0], [1, 0], [2, 0], [3, 1]]), codes_per_level=8)
    assert usage["perplexity/level_1"] == pytest.approx(4.0)  # four codes, evenly
    assert usage["codes_used/level_1"] == 0.5
    # Entropy of (3/4, 1/4) is 0.5623 nats.
    assert usage["perplexity/level_2"] == pytest.approx(1.7548, abs=1e-4)
    assert usage["codes_used/level_2"] == 0.25
