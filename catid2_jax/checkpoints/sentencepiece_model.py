"""The part of a SentencePiece model's file that a tokenizer is written from.

sentencepiece brings a generated module for it, which from 0.2.3 on refuses to load beside an older
protobuf than the one it was generated with, such as the one that Apache Beam asks for. The same
messages, declared at run time, load beside any.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto

_MESSAGES = {
    "SentencePiece": (
        _Field(name="piece", number=1, type=_Field.TYPE_STRING),
        _Field(name="score", number=2, type=_Field.TYPE_FLOAT),
    ),
    "TrainerSpec": (_Field(name="byte_fallback", number=35, type=_Field.TYPE_BOOL),),
    "NormalizerSpec": (
        _Field(name="precompiled_charsmap", number=2, type=_Field.TYPE_BYTES),
        _Field(name="add_dummy_prefix", number=3, type=_Field.TYPE_BOOL, default_value="true"),
        _Field(
            name="remove_extra_whitespaces", number=4, type=_Field.TYPE_BOOL, default_value="true"
        ),
    ),
    "ModelProto": (
        _Field(
            name="pieces", number=1, label=_Field.LABEL_REPEATED, type_name=".model.SentencePiece"
        ),
        _Field(name="trainer_spec", number=2, type_name=".model.TrainerSpec"),
        _Field(name="normalizer_spec", number=3, type_name=".model.NormalizerSpec"),
    ),
}


def parse_model(model: bytes) -> Any:
    """Parses the content of a `spiece.model`; fields and defaults are those of SentencePiece."""
    return _model_proto().FromString(model)


def _model_proto() -> Any:
    """The message class, in a pool of its own: sentencepiece's may be loaded, too."""
    file = descriptor_pb2.FileDescriptorProto(name="model.proto", package="model", syntax="proto2")
    for name, fields in _MESSAGES.items():
        file.message_type.add(name=name, field=fields)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("model.ModelProto"))
