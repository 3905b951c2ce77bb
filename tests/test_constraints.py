"""Every number of the configuration has a range, which is checked where it is given."""

import dataclasses
import math
import typing
from typing import Annotated, Literal

import pytest

from catid2_jax.config import Config, build, field_paths
from catid2_jax.constraints import (
    FileName,
    PositiveInt,
    ShareBelowOne,
    allowed,
    at_least,
    at_most,
    check_fields,
    check_value,
    field_hints,
    less_than,
    more_than,
    one_of,
)
from catid2_jax.errors import InputError
from catid2_jax.losses import LossWeights


def hint_of(path):
    """The annotation of a field of the configuration."""
    section = Config
    for name in path.split(".")[1:]:
        section = typing.get_type_hints(section, include_extras=True)[name]
    return section


def plain(hint):
    """An annotation without its constraints, items of a tuple for the tuple."""
    if typing.get_origin(hint) is Annotated:
        hint = typing.get_args(hint)[0]
    return plain(typing.get_args(hint)[0]) if typing.get_origin(hint) is tuple else hint


PATHS = field_paths()
NUMBERS = [path for path in PATHS if plain(hint_of(path)) in (int, float)]


def nested(path, value):
    """The values of a configuration of which one field is given."""
    for name in reversed(path.split(".")[1:]):
        value = {name: value}
    return value


@pytest.mark.parametrize("path", NUMBERS)
def test_no_number_may_be_negative_or_not_finite(path):
    """None of the configuration's means anything below 0."""
    hint = hint_of(path)
    bad = [-1] if plain(hint) is int else [-0.5, math.nan, math.inf, -math.inf]
    for value in bad:
        given = (value,) if typing.get_origin(hint) is tuple else value
        with pytest.raises(InputError) as error:
            build(Config, nested(path, given), "config")
        assert error.value.where == path
        assert error.value.found == repr(value)


def test_the_numbers_are_there():
    assert len(NUMBERS) > 80
    assert {
        "config.seed",
        "config.rqvae.hidden_dims",
        "config.docids.collisions.sinkhorn_epsilon",
    } < set(NUMBERS)


BOUNDS = {
    "config.seed": ([0, 2**32 - 1], [2**32]),
    "config.rqvae.hidden_dims": ([(1,), ()], [(0,), (8, 0)]),
    "config.rqvae.codebook_size": ([1], [0]),
    "config.rqvae.masked_categories": ([0, 1], [1.1]),
    "config.rqvae.code_shrinkage": ([(), (1.1, 1.05)], [(0,), (1.1, 1.1, 1.1, 1.1)]),
    "config.rqvae.dropout_rate": ([0, 0.9], [1, 2]),
    "config.rqvae.dtype": (["bfloat16"], ["float16", 3]),
    "config.rqvae.activation": (["silu"], ["tanh", ""]),
    "config.loss_weights.temperature": ([1e-6], [0]),
    "config.loss_weights.commitment": ([0], []),
    "config.rqvae_training.learning_rate": ([1e-9], [0]),
    "config.t5.num_heads": ([1], [0]),
    "config.t5.dropout_rate": ([0], [1]),
    "config.t5.relative_attention_num_buckets": ([4], [3]),
    "config.t5.relative_attention_max_distance": ([1], [0]),
    "config.t5.mlp_activations": ([("relu",)], [(), ("tanh",)]),
    "config.seq2seq.vocabulary_size": ([4], [1, 3]),
    "config.seq2seq.objective.position_weights": ([(), (0, 1)], [(0, 0)]),
    "config.seq2seq.objective.position_decay": ([1, 0.1], [0, 1.1]),
    "config.seq2seq.objective.r_drop": ([0], [-0.1]),
    "config.seq2seq.pseudo_queries": ([0, 3], [-1]),
    "config.t5.adaptor_layers": ([1], [0]),
    "config.t5.adaptor_rank": ([1], [0]),
    "config.evaluate.cutoffs": ([(1,)], [(), (0,)]),
    "config.embedding.max_tokens": ([2], [1]),
    "config.data.preprocessing.maximum_depth": ([3], [0]),
    "config.retrieve.output": (["a.trec"], ["", ".", "..", "/a", "a/b", "../a", "a/", "a\0b"]),
}


@pytest.mark.parametrize("path", BOUNDS)
def test_bounds(path):
    good, bad = BOUNDS[path]
    for value in good:
        build(Config, nested(path, value), "config")
    for value in bad:
        with pytest.raises(InputError) as error:
            build(Config, nested(path, value), "config")
        assert error.value.where.startswith(path.rpartition(".")[0])


def test_a_class_of_its_own_is_checked_too():
    with pytest.raises(InputError, match=r"^temperature: found nan, expected a finite number$"):
        LossWeights(temperature=math.nan)
    with pytest.raises(InputError, match=r"^dispersion: found -1.0, expected at least 0$"):
        dataclasses.replace(LossWeights(), dispersion=-1.0)


WORDS = {
    "": int,
    "at least 1": PositiveInt,
    "at least 0 and less than 1": ShareBelowOne,
    "more than 0 and at most 3": Annotated[float, more_than(0), at_most(3)],
    "each at least 1": tuple[PositiveInt, ...],
    "one of 'a', 'b'": Literal["a", "b"],
    "one of x, y": Annotated[str, one_of(("x", "y"))],
    "the name of a file, without a folder": FileName,
}


@pytest.mark.parametrize("words", WORDS)
def test_what_is_allowed_is_what_a_refusal_expects(words):
    assert allowed(WORDS[words]) == words
    if words and not words.startswith("each"):
        value = -1.0 if "least" in words or "than" in words else "/"
        kind = int if "1" in words and "0" not in words else float
        with pytest.raises(InputError) as error:
            check_value(kind(value) if value != "/" else value, WORDS[words], "x")
        assert error.value.expected == words


def test_values_come_back_in_their_type():
    found = check_value([1, 2], tuple[float, ...], "x")
    assert (found, [type(item) for item in found]) == ((1.0, 2.0), [float, float])
    assert check_value("anything", dict[str, int], "x") == "anything"  # not ours to check
    assert check_value(3, None, "x") == 3


@dataclasses.dataclass(frozen=True)
class Own:
    width: Annotated[int, at_least(2), less_than(5)] = 2
    label: str = ""

    def __post_init__(self):
        check_fields(self)


def test_fields_of_any_class():
    assert list(field_hints(Own)) == ["width", "label"]
    assert Own(4).width == 4
    for bad in (1, 5, True, 2.5, "2"):
        with pytest.raises(InputError):
            Own(bad)
    with pytest.raises(InputError):
        Own(label=3)
