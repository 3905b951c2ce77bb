"""One folder with all that a retrieval needs, whose parts know that they belong together.

`export` writes it, and `load` and `serve` read it as they do a work directory. Beside the files of
`steps/export.py` it has

    bundle.json          settings, versions, and size and digest of every other file
    catalog.parquet      the products
    docids.jsonl         the document IDs
    codebooks.npy        float32 [L, K, Z], those of stage 1, if it has any
    encoder/             shape and tokens of a pretrained encoder, if there is one
    ids.tsv              ID -> product: the ID's text, its tokens, the product's id
    constraints.jsonl    node -> what may follow: `prefix` and `next`, lists of tokens

The last two are for other engines. A token is a row of the network's embedding; token 0 in `next`
says that an ID may end there.
"""

import json
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from catid2_jax.checkpoints.trained import read_codebooks
from catid2_jax.config import Config, as_nested_dict, build, declared_values
from catid2_jax.data.corpus import Catalog, Corpus
from catid2_jax.decoding.trie import build_trie
from catid2_jax.docids.table import DocidTable, format_docid, read_docids, write_docids
from catid2_jax.docids.vocabulary import PAD, CodeVocabulary
from catid2_jax.errors import InputError
from catid2_jax.files import (
    atomic_write,
    file_digest,
    read_sealed,
    values_digest,
    write_npy,
    write_sealed,
)
from catid2_jax.loading import make_network, make_source
from catid2_jax.models.param_dtype import Int8Matrix
from catid2_jax.retrievers.config import RetrieveConfig
from catid2_jax.retrievers.generative import GenerativeRetriever, TrainedModel
from catid2_jax.retrievers.product_retriever import ProductRetriever
from catid2_jax.seq2seq.decoder import Decoder, resolve_normalize_over
from catid2_jax.seq2seq.source import Source
from catid2_jax.workdir import BUNDLE, Place, read_record, record_path

FORMAT = 1
"""Format of a bundle; one of another format is refused."""

_SECTIONS = ("retrieve", "embedding", "seq2seq", "t5")
_SEARCH = ("beams", "max_beams", "normalize_over", "batch_size")
"""The fields of `RetrieveConfig` that may differ from those that the bundle was written with."""


def write_bundle(
    folder: pathlib.Path, config: Config, place: Place, model: TrainedModel, filtered: bool
) -> None:
    """Makes a bundle of a folder that has the files of an export.

    Args:
        folder: the folder.
        config: the configuration that the model is of.
        place: the work directory's files.
        model: what is exported.
        filtered: whether filters are part of the exported function.
    """
    shutil.copyfile(place.workdir.catalog, folder / "catalog.parquet")
    write_docids(folder / "docids.jsonl", model.table)
    if (place.model / "rqvae").is_dir():
        write_npy(folder / "codebooks.npy", read_codebooks(place.model))
    if place.encoder.is_dir():
        shutil.copytree(place.encoder, folder / "encoder")
    write_tables(folder, model.table, model.source.vocabulary)
    values = declared_values(config, _SECTIONS)
    # Files of this machine that the configuration names are in the bundle or not needed.
    values["seq2seq"]["vocabulary"] = ""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    write_sealed(
        folder / BUNDLE,
        {
            "format": FORMAT,
            "system": place.folder.name,
            "config": json.loads(json.dumps(values)),
            "codebook_size": model.table.codebook_size,
            "source_width": model.source.form.shape[0],
            "encoder": _encoder_fingerprint(place, values["embedding"]),
            "filtered": filtered,
            "jax": jax.__version__,
            "files": {
                path.relative_to(folder).as_posix(): [path.stat().st_size, file_digest(path)]
                for path in paths
            },
        },
    )


def write_tables(folder: pathlib.Path, table: DocidTable, vocabulary: CodeVocabulary) -> None:
    """Writes `ids.tsv` and `constraints.jsonl`, in the order of the IDs."""
    order = np.lexsort(table.codes.T[::-1])
    tokens = vocabulary.encode_codes(table.codes)[order]
    with atomic_write(folder / "ids.tsv") as file:
        file.write("docid\ttokens\tproduct\n")
        for row, of_product in zip(order.tolist(), tokens.tolist(), strict=True):
            text = " ".join(str(token) for token in of_product if token != PAD)
            file.write(f"{format_docid(table.codes[row].tolist())}\t{text}\t{table.ids[row]}\n")
    with atomic_write(folder / "constraints.jsonl") as file:
        for prefix, following in _constraints(tokens.tolist()):
            file.write(json.dumps({"prefix": prefix, "next": following}) + "\n")


def _constraints(rows: list[list[int]]) -> Iterator[tuple[list[int], list[int]]]:
    """(prefix, tokens that may follow) of every inner node, level by level; of sorted rows."""
    for level in range(len(rows[0]) if rows else 0):
        prefix: list[int] | None = None
        following: list[int] = []
        for row in rows:
            if level and row[level - 1] == PAD:
                continue
            if row[:level] != prefix:
                if prefix is not None:
                    yield prefix, following
                prefix, following = row[:level], []
            if row[level] not in following[-1:]:
                following.append(row[level])
        if prefix is not None:
            yield prefix, following


def is_bundle(folder: pathlib.Path) -> bool:
    """Whether a folder is a bundle."""
    return (folder / BUNDLE).is_file()


def read_bundle(folder: pathlib.Path) -> dict[str, Any]:
    """What a bundle says of itself, once every file is found to be as it was written.

    Raises:
        InputError: a part is missing, has changed or does not belong to the others; it is named.
    """
    try:
        values = read_sealed(folder / BUNDLE)
    except (OSError, ValueError) as error:
        raise InputError(folder / BUNDLE, error, "the file that `export` wrote") from error
    if values.get("format") != FORMAT:
        found = f"a bundle of format {values.get('format')}, made by another version"
        raise InputError(folder, found, f"format {FORMAT}: export it anew")
    for name, (size, digest) in values["files"].items():
        path = folder / name
        if not path.is_file():
            raise InputError(path, "no such file", "every file of the bundle: export it anew")
        if path.stat().st_size != size or file_digest(path) != digest:
            raise InputError(
                path,
                "a file that does not belong to this bundle, or has changed",
                f"the one that {BUNDLE} was written with: export it anew",
            )
    return values


def load_bundle(folder: pathlib.Path, system: str, settings: Mapping[str, Any]) -> ProductRetriever:
    """The retriever of a bundle.

    Args:
        folder: the bundle.
        system: the system that it must be of; empty for any.
        settings: fields of `RetrieveConfig` that say how is searched.

    Raises:
        InputError: it is of another system, was exported with filters, has parts that do not
            belong together, or a setting is fixed in it.
    """
    values = read_bundle(folder)
    if system and system != values["system"]:
        raise InputError(folder, f"no system {system!r}", f"{values['system']!r}, the bundle's")
    if values["filtered"]:
        raise InputError(
            folder, "an export with filters", "one without; a search takes filters of its own"
        )
    section, config = _settings(values["config"], settings)
    catalog = Catalog.open(folder / "catalog.parquet")
    table = read_docids(folder / "docids.jsonl", values["codebook_size"])
    if list(table.ids) != catalog.ids:
        expected = "those of catalog.parquet, in their order"
        raise InputError(folder / "docids.jsonl", "the IDs of other products", expected)
    source = make_source(
        config.seq2seq,
        config.t5,
        config.embedding,
        table,
        folder / "vocabulary.model",
        values["source_width"],
        folder / "encoder",
    )
    decoder = make_network(config.seq2seq, config.t5, source, folder / "encoder")
    params = _read_params(folder / "arrays.npz", decoder, source)
    over = resolve_normalize_over(section.normalize_over, config.seq2seq.objective.normalize_over)
    trie = build_trie(table.codes, table.codebook_size)
    model = TrainedModel(decoder, params, source, table, trie, over)
    retriever = GenerativeRetriever(Corpus(catalog), model, section)
    return ProductRetriever(values["system"], catalog, retriever, table)


def _settings(
    recorded: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[RetrieveConfig, Config]:
    """How is searched, and the configuration.

    Raises:
        InputError: a setting that is fixed in a bundle, or unknown.
    """
    for name, value in settings.items():
        if name not in _SEARCH and recorded["retrieve"].get(name) != value:
            raise InputError(
                "load", f"the setting {name} = {value!r} for a bundle", f"of {', '.join(_SEARCH)}"
            )
    values = as_nested_dict(Config()) | {name: recorded[name] for name in _SECTIONS}
    # k is the exported function's; a search here has its own.
    values["retrieve"] = {**values["retrieve"], **settings, "k": 1}
    config = build(Config, values, "config")
    return config.retrieve, config


def _read_params(path: pathlib.Path, decoder: Decoder, source: Source) -> Any:
    """The parameters of the network, in the type in which they were written.

    Raises:
        InputError: an array is missing or of another shape.
    """

    def template() -> Any:
        return decoder.initialize(jax.random.key(0), source.form)

    with np.load(path, allow_pickle=False) as arrays:

        def read(names: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> Any:
            name = f"params/{leaf_name(names)}"
            if f"{name}/values" in arrays:
                values, scales = (jnp.asarray(arrays[f"{name}/{x}"]) for x in ("values", "scales"))
                _check_shape(f"{path}: {name}", values.shape, leaf.shape)
                return Int8Matrix(values, scales)
            array = arrays.get(name)
            _check_shape(f"{path}: {name}", None if array is None else array.shape, leaf.shape)
            return jnp.asarray(array.view(jnp.bfloat16) if array.dtype == np.uint16 else array)

        return jax.tree_util.tree_map_with_path(read, jax.eval_shape(template))


def _check_shape(where: str, found: tuple[int, ...] | None, expected: tuple[int, ...]) -> None:
    if found != expected:
        raise InputError(where, f"shape {found}", f"{expected}, as the network has it")


def leaf_name(path: tuple[Any, ...]) -> str:
    """A leaf's path as a/b/0."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _encoder_fingerprint(place: Place, embedding: Mapping[str, Any]) -> str:
    """A digest of the encoder's settings and of the vectors that it gave."""
    record = read_record(record_path(place.vectors, "embed"))
    files = dict(record.files) if record else {}
    return values_digest({"settings": json.loads(json.dumps(embedding)), "files": files})
