"""Writes a vocabulary as the tokenizer that Hugging Face's `AutoTokenizer` reads."""

import base64
import pathlib
from typing import Any

from catid2_jax.checkpoints.sentencepiece_model import parse_model
from catid2_jax.docids.vocabulary import Vocabulary
from catid2_jax.files import atomic_write, write_json

PIECES = "spiece.model"
"""The name of a SentencePiece model among Hugging Face's files."""


def write_tokenizer(folder: pathlib.Path, vocabulary: Vocabulary) -> None:
    """Writes `tokenizer.json`, `tokenizer_config.json` and the SentencePiece model itself.

    The ids of text are SentencePiece's; level l's code c is the token `<id_l_c>`. Hugging Face's
    `tokenizers` itself differs in three things: the name of a special token in a text (`</s>`,
    `<id_0_7>`) is read as that token; a combining mark or a skin tone that forms no character
    with what is before it is dropped, not unknown; and of two ways to cut a word that are equally
    likely ("444" as "4", "44" or "44", "4") it may take the other.
    """
    model = parse_model(vocabulary.model)
    pieces = [[piece.piece, piece.score] for piece in model.pieces]
    added = {i: pieces[i][0] for i in (0, vocabulary.end, vocabulary.unknown)}
    added |= {vocabulary.pieces + i: name for i, name in enumerate(extra_names(vocabulary))}
    write_json(
        folder / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [_added_token(i, name) for i, name in added.items()],
            "normalizer": _normalizer(model.normalizer_spec),
            "pre_tokenizer": _metaspace(model.normalizer_spec),
            "post_processor": _with_end(vocabulary.end, added[vocabulary.end]),
            "decoder": _metaspace(model.normalizer_spec),
            "model": {
                "type": "Unigram",
                "unk_id": vocabulary.unknown,
                "vocab": pieces,
                "byte_fallback": model.trainer_spec.byte_fallback,
            },
        },
    )
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": added[0],
            "eos_token": added[vocabulary.end],
            "unk_token": added[vocabulary.unknown],
            "model_input_names": ["input_ids", "attention_mask"],
            "clean_up_tokenization_spaces": False,
        },
    )
    with atomic_write(folder / PIECES, "wb") as file:
        file.write(vocabulary.model)


def extra_names(vocabulary: Vocabulary) -> list[str]:
    """Names the ids after the pieces: `<extra_id_99>` to `<extra_id_0>`, then `<id_l_c>`."""
    extra = vocabulary.first_id_token - vocabulary.pieces
    return [f"<extra_id_{i}>" for i in reversed(range(extra))] + [
        f"<id_{level}_{code}>"
        for level in range(vocabulary.levels)
        for code in range(vocabulary.codebook_size)
    ]


def _added_token(token_id: int, name: str) -> dict[str, Any]:
    return {
        "id": token_id,
        "content": name,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": not name.startswith("<id_"),  # "skip_special_tokens" must not drop an ID
    }


def _normalizer(spec: Any) -> dict[str, Any]:
    """Describes SentencePiece's normaliser: its table of characters, then no superfluous space."""
    steps: list[dict[str, Any]] = []
    if spec.precompiled_charsmap:
        table = base64.b64encode(spec.precompiled_charsmap).decode()
        steps.append({"type": "Precompiled", "precompiled_charsmap": table})
    if spec.remove_extra_whitespaces:
        steps += [_replace("^ +| +$", ""), _replace(" {2,}", " ")]
    return {"type": "Sequence", "normalizers": steps}


def _replace(pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def _metaspace(spec: Any) -> dict[str, Any]:
    scheme = "always" if spec.add_dummy_prefix else "never"
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": True}


def _with_end(token_id: int, name: str) -> dict[str, Any]:
    """Describes the end-of-sequence token after every text, and after each text of a pair."""
    first, second = ({"Sequence": {"id": text, "type_id": 0}} for text in "AB")
    end = {"SpecialToken": {"id": name, "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [first, end],
        "pair": [first, end, second, end],
        "special_tokens": {name: {"id": name, "ids": [token_id], "tokens": [name]}},
    }
