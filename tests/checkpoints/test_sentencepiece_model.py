"""What is read of a SentencePiece model beside what sentencepiece's own module reads of it."""

import pathlib

import pytest
from google.protobuf.runtime_version import VersionError

from catid2_jax.checkpoints.sentencepiece_model import parse_model
from catid2_jax.docids.vocabulary import train_vocabulary

T5 = pathlib.Path(__file__).parents[3] / "shared/data/t5.spiece.model"


@pytest.fixture(scope="module")
def model_proto():
    """sentencepiece's message class; recent ones load only beside a protobuf as recent."""
    try:
        from sentencepiece import sentencepiece_model_pb2
    except VersionError as error:
        pytest.skip(str(error))
    return sentencepiece_model_pb2.ModelProto


@pytest.fixture(scope="module", params=["trained here", "T5's"])
def content(request):
    if request.param == "trained here":
        return train_vocabulary([f"red shoe number {i}" for i in range(100)], 60)
    if not T5.exists():
        pytest.skip(f"{T5} is not there")
    return T5.read_bytes()


def check_same(found, expected):
    assert len(found.pieces) == len(expected.pieces) > 20
    for one, other in zip(found.pieces, expected.pieces, strict=True):
        assert (one.piece, one.score) == (other.piece, other.score)
    assert found.trainer_spec.byte_fallback == expected.trainer_spec.byte_fallback
    for field in ("precompiled_charsmap", "add_dummy_prefix", "remove_extra_whitespaces"):
        assert getattr(found.normalizer_spec, field) == getattr(expected.normalizer_spec, field)


def test_a_model_is_read_as_sentencepiece_reads_it(content, model_proto):
    check_same(parse_model(content), model_proto.FromString(content))


@pytest.mark.parametrize("value", [True, False])
def test_fields_of_either_value_are_read(content, model_proto, value):
    model = model_proto.FromString(content)
    model.trainer_spec.byte_fallback = value
    model.normalizer_spec.add_dummy_prefix = value
    model.normalizer_spec.remove_extra_whitespaces = not value
    check_same(parse_model(model.SerializeToString()), model)


def test_fields_that_are_not_there_have_sentencepieces_defaults(content, model_proto):
    model = model_proto.FromString(content)
    model.ClearField("trainer_spec")
    model.ClearField("normalizer_spec")
    check_same(parse_model(model.SerializeToString()), model)
