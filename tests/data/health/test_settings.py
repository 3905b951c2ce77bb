"""Settings that a catalogue suggests, on catalogues whose answer is plain."""

import pytest

from catid2_jax.data.health.inspection import inspect_data
from catid2_jax.data.health.settings import suggest_settings, suggestion
from catid2_jax.data.preprocessing import PreprocessingConfig
from catid2_jax.types import Product


def figures(count, path_of):
    products = [Product(f"p{i}", f"title {i}", "", path_of(i)) for i in range(count)]
    return inspect_data(products, {}, PreprocessingConfig()).figures["catalog"]


@pytest.mark.parametrize(
    ("count", "path_of", "size", "levels"),
    [
        (100, lambda i: ("a", f"b{i % 2}", f"c{i % 4}"), 16, 3),
        (600, lambda i: (f"a{i % 2}", f"b{i % 4}"), 64, 2),
        (2000, lambda i: (f"a{i % 2}", "b", "c", "d"), 256, 3),
        (100, lambda i: ("a",), 16, 0),  # one category tells nothing apart
        (100, lambda i: (f"a{i % 2}", "b") if i % 3 == 0 else (f"a{i % 2}",), 16, 1),
    ],
)
def test_settings_follow_the_size_and_the_tree(count, path_of, size, levels):
    found = suggest_settings(figures(count, path_of))
    assert found == {"levels": 4, "codebook_size": size, "category_levels": levels}


def test_the_words_are_the_settings():
    assert suggestion(figures(100, lambda i: (f"a{i % 2}",)), "--config.rqvae.") == (
        "stage 1 may start from --config.rqvae.levels=4 --config.rqvae.codebook_size=16 "
        "--config.rqvae.category_levels=1 and the default weights of its loss"
    )
