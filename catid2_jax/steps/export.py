"""The whole retrieval as files that JAX runs without this package: no pickle, no Python code.

Beside JAX, reading them takes flatbuffers, NumPy and SentencePiece or `tokenizers`.

In the folder `export` of a system:

    retrieve.stablehlo   the function, by `jax.export`, for any batch size
    arrays.npz           its parameters and trie, by name; bfloat16 as the uint16 of its bits
    vocabulary.model     SentencePiece, for a network that reads text; or
    tokenizer.json       WordPiece, for one with a pretrained encoder
    products.txt         product id per document row
    export.json          what the function was made with, and how a query becomes tokens

With the files that `catid2_jax/bundle.py` names it is a bundle: `load` and `serve` take it in the
place of a work directory.

A query's tokens are its pieces, cut to `source_tokens` - 1, then `end`, then `pad`; WordPiece's are
what the library `tokenizers` gives by that file, which also cuts and pads. A network that reads
vectors has `vector_width` instead. To retrieve:

    function = jax.jit(jax.export.deserialize(open("retrieve.stablehlo", "rb").read()).call)
    # queries: int32 [batch, source_tokens] or float32 [batch, vector_width + word_features]
    found = function(dict(numpy.load("arrays.npz")), queries)
    found["documents"], found["scores"], found["exact"]        # [batch, k] twice, [batch]

A document of -1 is no result; `exact` says that nothing better than the k exists. The trie's arrays
may be exchanged for those of another catalogue of the same capacities.
"""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from catid2_jax.bundle import leaf_name, write_bundle
from catid2_jax.config import Config
from catid2_jax.data.corpus import Catalog
from catid2_jax.decoding.filters import FIELDS, FilterIndex, read_filter
from catid2_jax.docids.vocabulary import PAD, Vocabulary
from catid2_jax.errors import InputError
from catid2_jax.files import atomic_folder, atomic_write, write_json
from catid2_jax.loading import load_corpus, load_model
from catid2_jax.processes import first_alone
from catid2_jax.progress import console
from catid2_jax.resolution import ResolvedSystem
from catid2_jax.retrievers.config import RetrieveConfig
from catid2_jax.retrievers.generative import TrainedModel
from catid2_jax.seq2seq.search import retrieve
from catid2_jax.seq2seq.source import WordPieceSource
from catid2_jax.workdir import Place, check_artefacts

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def run(config: Config, place: Place, system: ResolvedSystem) -> None:
    """Writes `export` with the search for whole IDs that `config.retrieve` describes."""
    if system.row.retriever != "generative":
        raise InputError(
            "config.systems",
            f"{system.name!r}, which searches by {system.row.retriever}",
            "systems that search for whole IDs, which is what is exported",
        )
    check_artefacts(place, "retrieve")
    section = config.retrieve
    model = load_model(config, place)
    catalog = load_corpus(place, with_embeddings=False).catalog
    conditions = read_filter({name: getattr(section, name) for name in FIELDS})
    mask = None
    if conditions is not None:
        index = FilterIndex(catalog.ids, catalog.paths)
        mask = model.trie.mask(index.allowed(conditions, "config.retrieve"))
    tree = {"params": model.params, "trie": model.trie, "mask": mask}
    console.print(f"exporting {system.name} for {', '.join(PLATFORMS)} ...")
    bundle = functools.partial(
        write_bundle, config=config, place=place, model=model, filtered=mask is not None
    )
    target = place.folder / "export"
    first_alone(functools.partial(_write, target, section, model, tree, catalog, bundle))


def _write(
    target: pathlib.Path,
    section: RetrieveConfig,
    model: TrainedModel,
    tree: Any,
    catalog: Catalog,
    bundle: Callable[[pathlib.Path], None],
) -> None:
    """Writes the files, which take the place of those of an earlier export all at once."""
    arrays, function = to_arrays(tree), export_retrieve(section, model, tree)
    with atomic_folder(target) as directory:
        _write_files(directory, section, model, arrays, function, catalog)
        bundle(directory)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    console.print(f"{target}: {size / 2**20:.1f} MiB")


def _write_files(
    directory: pathlib.Path,
    section: RetrieveConfig,
    model: TrainedModel,
    arrays: dict[str, Any],
    function: jax.export.Exported,
    catalog: Catalog,
) -> None:
    with atomic_write(directory / "retrieve.stablehlo", "wb") as file:
        file.write(function.serialize())
    with atomic_write(directory / "arrays.npz", "wb") as file:
        np.savez(file, **arrays)
    vocabulary, width = model.source.vocabulary, model.source.form.shape[0]
    words = getattr(model.source, "word_features", 0)
    reads: dict[str, Any] = {"vector_width": width - words, "word_features": words}
    if isinstance(vocabulary, Vocabulary):
        with atomic_write(directory / "vocabulary.model", "wb") as file:
            file.write(vocabulary.model)
        reads = {"source_tokens": width, "pad": PAD, "end": vocabulary.end}
    elif isinstance(model.source, WordPieceSource):
        with atomic_write(directory / "tokenizer.json") as file:
            file.write(model.source.tokenizer.to_str())
        reads = {"source_tokens": width}
    with atomic_write(directory / "products.txt") as file:
        file.writelines(f"{product_id}\n" for product_id in catalog.ids)
    description = reads | {
        "k": section.k,
        "beams": section.beams,
        "normalize_over": model.normalize_over,
        "param_dtype": section.param_dtype,
        "platforms": list(PLATFORMS),
        "jax": jax.__version__,
    }
    write_json(directory / "export.json", description)


def to_arrays(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by name, in types that NumPy knows."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    arrays = {leaf_name(path): np.asarray(leaf) for path, leaf in leaves}
    return {
        name: array.view(np.uint16) if array.dtype == jnp.bfloat16 else array
        for name, array in arrays.items()
    }


def export_retrieve(section: RetrieveConfig, model: TrainedModel, tree: Any) -> jax.export.Exported:
    """The function (arrays of `to_arrays(tree)`, queries [batch, ...]) -> results."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)

    def from_arrays(arrays: dict[str, jax.Array]) -> Any:
        values = []
        for path, leaf in leaves:
            value = arrays[leaf_name(path)]
            if leaf.dtype == jnp.bfloat16:
                value = jax.lax.bitcast_convert_type(value, jnp.bfloat16)
            values.append(value)
        return jax.tree_util.tree_unflatten(structure, values)

    def function(arrays: dict[str, jax.Array], queries: jax.Array) -> dict[str, Any]:
        given = from_arrays(arrays)
        found = retrieve(
            model.decoder,
            given["params"],
            queries,
            given["trie"],
            section.beams,
            section.k,
            given["mask"],
            model.normalize_over,
        )
        return {"documents": found.documents, "scores": found.scores, "exact": found.exact}

    shapes = {
        name: jax.ShapeDtypeStruct(array.shape, array.dtype)
        for name, array in to_arrays(tree).items()
    }
    (batch,) = jax.export.symbolic_shape("batch")
    form = model.source.form
    queries = jax.ShapeDtypeStruct((batch, *form.shape), form.dtype)
    with _without_locations():
        return jax.export.export(jax.jit(function), platforms=PLATFORMS)(shapes, queries)


@contextlib.contextmanager
def _without_locations() -> Iterator[None]:
    """Keeps JAX from writing into a program where on this machine its source lies."""
    limit = jax.config.values["jax_traceback_in_locations_limit"]
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        yield
    finally:
        jax.config.update("jax_traceback_in_locations_limit", limit)
