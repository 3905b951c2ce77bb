"""Stage 1 as it is by default, on a small catalogue with queries."""

import numpy as np
from scipy.stats import entropy

import catid2_jax
from catid2_jax.data.corpus import Catalog
from catid2_jax.data.synthetic import SyntheticConfig, generate_products
from tests.plugins.my_encoder import MyEncoder

STEPS, SIZE = 300, 256


def learn(**settings):
    """IDs of 400 products, each of which is searched with its title."""
    products = list(generate_products(SyntheticConfig(products=400), 0))
    encoder, titles = MyEncoder(64), {f"q{i}": p.title for i, p in enumerate(products)}
    texts = [". ".join([p.title, p.text, " > ".join(p.categories)]) for p in products]
    return catid2_jax.learn_docids(
        Catalog.from_products(products),
        encoder.encode(texts),
        queries=titles,
        qrels={f"q{i}": {p.id: 3} for i, p in enumerate(products)},
        query_vectors=encoder.encode(list(titles.values())),
        **settings,
    )


def test_no_codebook_dies(capsys):
    table = learn(steps=STEPS, evaluate_every=STEPS)
    printed = capsys.readouterr().out
    assert f"step {STEPS:,}: collisions" in printed
    assert "is dying" not in printed
    for codes in table.nearest.T:
        usage = np.bincount(codes, minlength=SIZE)
        assert np.count_nonzero(usage) >= SIZE / 2
        assert np.exp(entropy(usage)) >= SIZE / 4
