"""Reads the WordPiece tokens of a BERT by the library `tokenizers`; needs the extra `bert`."""

import pathlib
from typing import Any

from catid2_jax.checkpoints.tree import read_json
from catid2_jax.docids.vocabulary import PAD
from catid2_jax.errors import InputError

TOKENIZER, WORDS = "tokenizer.json", "vocab.txt"


def read_tokenizer(folder: pathlib.Path) -> Any:
    """Reads a `tokenizers.Tokenizer` that neither cuts nor pads.

    Args:
        folder: has `tokenizer.json`, or `vocab.txt` and maybe `tokenizer_config.json`.

    Raises:
        InputError: the package is missing, there is no such file, it cannot be read, or its token 0
            is not padding.
    """
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        raise InputError(
            "tokenizers", f"no package {error.name}", "it: pip install 'catid2_jax[bert]'"
        ) from error
    paths = [folder / name for name in (TOKENIZER, WORDS) if (folder / name).is_file()]
    if not paths:
        raise InputError(folder, f"no {TOKENIZER} and no {WORDS}", "one of them")
    try:
        if paths[0].name == TOKENIZER:
            tokenizer = tokenizers.Tokenizer.from_file(str(paths[0]))
        else:
            tokenizer = _of_words(paths[0])
    except InputError:
        raise
    except Exception as error:  # the library raises nothing narrower
        raise InputError(paths[0], f"no WordPiece ({error!s:.200})", "its tokens") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if tokenizer.id_to_token(PAD) != "[PAD]":
        raise InputError(
            paths[0], f"{tokenizer.id_to_token(PAD)!r} as token {PAD}", "'[PAD]', as BERT has it"
        )
    return tokenizer


def _of_words(path: pathlib.Path) -> Any:
    """The tokenizer of a list of words, with the settings that lie beside it or BERT's."""
    import tokenizers

    settings = path.with_name("tokenizer_config.json")
    values = read_json(settings) if settings.is_file() else {}
    made = tokenizers.BertWordPieceTokenizer(
        str(path),
        lowercase=values.get("do_lower_case", True),
        strip_accents=values.get("strip_accents"),
        handle_chinese_chars=values.get("tokenize_chinese_chars", True),
    )
    return tokenizers.Tokenizer.from_str(made.to_str())
