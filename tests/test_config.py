"""Every configuration file can be frozen, and holds what it promises."""

import dataclasses
import importlib.util
import pathlib

import pytest

from catid2_jax.config import Config, as_nested_dict, default_config, freeze
from catid2_jax.errors import InputError
from catid2_jax.presets import set_preset

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"


def load(name, *preset):
    spec = importlib.util.spec_from_file_location("configuration", CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(*preset)


def test_default_configuration_freezes_to_the_dataclasses_defaults():
    assert freeze(default_config()) == Config()


SILVER = ["grocery", "offers", "grocery_vectors", "offers_vectors"]


@pytest.mark.parametrize("name", ["quickstart", "rqvae", "seq2seq", *SILVER])
def test_cat_id2_is_all_of_equation_8_and_tiger_is_equation_3(name):
    ours, tiger = freeze(load(name)), freeze(load(name, "tiger"))
    assert (ours.rqvae.levels, ours.rqvae.codebook_size, ours.rqvae.category_levels) == (4, 256, 3)
    w = ours.loss_weights
    assert (w.dispersion, w.hierarchical_class, w.cluster_scale) == (0.1, 1e-4, 1.0)
    w = tiger.loss_weights
    assert w.reconstruction == 1.0
    assert (w.dispersion, w.hierarchical_class, w.cluster_scale) == (0.0, 0.0, 0.0)
    assert dataclasses.replace(tiger, loss_weights=ours.loss_weights) == ours


@pytest.mark.parametrize("codes", [256, 512])
def test_paper_settings_are_those_of_section_4_1(codes):
    config = load("paper/table2", f"cat_id2_{codes}")
    config.embedding.path = "vectors.npy"
    frozen = freeze(config)
    assert frozen.rqvae.codebook_size == codes
    assert (frozen.rqvae_training.batch_size, frozen.rqvae_training.epochs) == (4096, 300)
    assert frozen.rqvae.hidden_dims == (2048, 1024, 512, 256, 128, 64)
    assert (frozen.t5.emb_dim, frozen.t5.num_encoder_layers, frozen.t5.mlp_dim) == (768, 12, 2048)


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match="'nonsense', expected one of cat_id2, tiger"):
        set_preset(default_config(), "nonsense")
    config = default_config()
    with config.unlocked():
        config.rqvae.depth = 3
    with pytest.raises(InputError, match=r"found config\.rqvae\.depth, expected one of levels"):
        freeze(config)


def test_nested_dict_holds_every_field_once():
    nested = as_nested_dict(Config())
    assert set(nested) == {field.name for field in dataclasses.fields(Config)}
    assert nested["data"]["preprocessing"]["minimum_depth"] == 3
    assert nested["rqvae"]["hidden_dims"] == (2048, 1024, 512, 256, 128, 64)
