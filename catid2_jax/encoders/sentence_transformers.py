"""Any model of the library sentence-transformers; needs the extra `embed`."""

import copy
import json
import math
import sys
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from catid2_jax.encoders.config import EmbeddingConfig
from catid2_jax.encoders.encoder import BatchedEncoder, Encoder, fingerprint
from catid2_jax.errors import InputError


def from_config(section: EmbeddingConfig, seed: int) -> Encoder:
    """The encoder "sentence_transformers"; it draws nothing, so it needs no seed."""
    network = SentenceTransformersEncoder(section.path, section.max_tokens)
    return BatchedEncoder(network, section.batch_tokens)


class SentenceTransformersEncoder:
    """A `TokenEncoder` around a model of sentence-transformers, in PyTorch.

    Attributes:
        key: fingerprint of the modules, their parameters and the length.
        max_tokens: the length at which longer texts are cut, special tokens and the model's prompt
            included.
    """

    def __init__(self, name: str, max_tokens: int, devices: Sequence[str] = ()) -> None:
        """Loads the model.

        Args:
            name: a folder or a name on the hub.
            max_tokens: the length at which longer texts are cut; the model's own limit holds too.
            devices: PyTorch's names of the devices that share a batch; without any, all GPUs, or
                what the library takes by itself.

        Raises:
            InputError: the package is missing, or there is no such model.
        """
        try:
            from sentence_transformers import SentenceTransformer
            from torch import cuda
        except ModuleNotFoundError as error:
            raise InputError(
                "sentence_transformers",
                f"no package {error.name}",
                "it: pip install 'catid2_jax[embed]'",
            ) from error
        try:
            self._model: Any = SentenceTransformer(name)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InputError(name, f"{reason:.200}", "a model of sentence-transformers") from error
        self.max_tokens = self._limit(max_tokens)
        self._parameters = fingerprint(*map(_bytes, self._model.state_dict().items()))
        self._read_as("document", "passage", "corpus")

        gpus = [f"cuda:{i}" for i in range(cuda.device_count())]
        self._devices = list(devices) or gpus
        self._pool = None
        if len(self._devices) > 1:
            self._pool = self._model.start_multi_process_pool(self._devices)
            weakref.finalize(self, SentenceTransformer.stop_multi_process_pool, self._pool)

    def tokenize(self, texts: Sequence[str]) -> tuple[list[str], np.ndarray]:
        """The texts themselves, and their lengths."""
        prompted = [self._prompt + text for text in texts]
        tokenizer = self._model.tokenizer
        if callable(tokenizer):
            ids = tokenizer(prompted, truncation=False, verbose=False)["input_ids"]
        else:  # the one of static embeddings
            ids = tokenizer.encode_batch(prompted, add_special_tokens=False)
        return list(texts), np.array([len(text) for text in ids])

    def encode_batch(self, items: Sequence[str], rows: int, width: int) -> np.ndarray:
        """The model's vectors of documents or queries, float32 [len(items), D]."""
        share = math.ceil(len(items) / max(len(self._devices), 1))
        encode = self._model.encode_document
        if self._kind == "query":
            encode = self._model.encode_query
        return encode(
            list(items),
            batch_size=share,
            chunk_size=share,
            pool=self._pool,
            show_progress_bar=False,
        )

    def _limit(self, max_tokens: int) -> int:
        own = self._model.max_seq_length
        try:
            self._model.max_seq_length = min(own or math.inf, max_tokens)
        except AttributeError:  # static embeddings take any length
            return sys.maxsize
        return self._model.max_seq_length

    def for_queries(self) -> "SentenceTransformersEncoder":
        """The same model with what it puts before a query, if it makes a difference."""
        other = copy.copy(self)
        other._read_as("query")
        return other

    def _read_as(self, *kinds: str) -> None:
        """What `encode_document` or `encode_query` puts before each text, and the key with it."""
        self._kind = kinds[0]
        prompts = self._model.prompts
        name = next((kind for kind in kinds if kind in prompts), self._model.default_prompt_name)
        self._prompt = (prompts[name] or "") if name else ""
        about = f"{self._model} {self._kind} {self._prompt} {self.max_tokens}".encode()
        self.key = fingerprint(about, self._parameters.encode())


def _bytes(parameter: tuple[str, Any]) -> bytes:
    """A parameter's name, type, shape and bits, of whatever type."""
    import torch

    name, tensor = parameter
    about = json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode()
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return about + flat.view(torch.uint8).numpy().tobytes()
