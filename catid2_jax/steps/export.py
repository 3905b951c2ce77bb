"""The whole retrieval as files that JAX runs without this package: no pickle, no Python code.

Beside JAX, reading them takes flatbuffers, NumPy and SentencePiece.

In `DIR/export`:

    retrieve.stablehlo   the function, by `jax.export`, for any batch size
    arrays.npz           its parameters and trie, by name; bfloat16 as the uint16 of its bits
    vocabulary.model     SentencePiece, for a network that reads text
    products.txt         product id per document row
    export.json          what the function was made with, and how a query becomes tokens

A query's tokens are its pieces, cut to `source_tokens` - 1, then `end`, then `pad`; a network that
reads vectors has `vector_width` instead. To retrieve:

    function = jax.jit(jax.export.deserialize(open("retrieve.stablehlo", "rb").read()).call)
    # of queries: int32 [batch, source_tokens] or float32 [batch, vector_width]
    found = function(dict(numpy.load("arrays.npz")), queries)
    found["documents"], found["scores"], found["exact"]        # [batch, k] twice, [batch]

A document of -1 is no result; `exact` says that nothing better than the k exists. The trie's arrays
may be exchanged for those of another catalogue of the same capacities.
"""

from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from catid2_jax.config import Config
from catid2_jax.seq2seq.decoder import retrieve
from catid2_jax.docids.vocabulary import PAD, Vocabulary
from catid2_jax.errors import InputError
from catid2_jax.files import atomic_write, write_json
from catid2_jax.progress import console
from catid2_jax.steps.retrieve import Retriever, allowed_documents, load_retriever
from catid2_jax.steps.train_seq2seq import source_form
from catid2_jax.steps.workdir import Workdir

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def run(config: Config, workdir: Workdir) -> None:
    """Writes `export` with the retrieval that `config.retrieve` describes."""
    section = config.retrieve
    if section.expand_level:
        raise InputError(
            f"config.retrieve.expand_level is {section.expand_level}: expected 0, since what is "
            "exported is the search for whole IDs"
        )
    retriever = load_retriever(config, workdir)
    allowed = allowed_documents(section, workdir, retriever.table, [])(np.zeros(0, int))
    mask = None if allowed is None else retriever.trie.mask(allowed)
    tree = {"params": retriever.params, "trie": retriever.trie, "mask": mask}
    console.print(f"exporting for {', '.join(PLATFORMS)} ...")
    arrays = to_arrays(tree)
    form = source_form(config, workdir)
    function = export_retrieve(config, retriever, tree, form)

    directory = workdir.models / "export"
    # What says how the others are to be used is there last.
    (directory / "export.json").unlink(missing_ok=True)
    with atomic_write(directory / "retrieve.stablehlo", "wb") as file:
        file.write(function.serialize())
    with atomic_write(directory / "arrays.npz", "wb") as file:
        np.savez(file, **arrays)
    reads: dict[str, Any] = {"vector_width": form.shape[0]}
    if isinstance(retriever.vocabulary, Vocabulary):
        with atomic_write(directory / "vocabulary.model", "wb") as file:
            file.write(retriever.vocabulary.model)
        reads = {"source_tokens": form.shape[0], "pad": PAD, "end": retriever.vocabulary.end}
    with atomic_write(directory / "products.txt") as file:
        file.writelines(f"{product_id}\n" for product_id in retriever.table.ids)
    description = reads | {
        "k": section.k,
        "beams": section.beams,
        "scores": section.scores,
        "weights": section.weights,
        "platforms": list(PLATFORMS),
        "jax": jax.__version__,
    }
    write_json(directory / "export.json", description)
    size = sum(path.stat().st_size for path in directory.iterdir())
    console.print(f"{directory}: {size / 2**20:.1f} MiB")


def to_arrays(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by name, in types that NumPy knows."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    arrays = {_name(path): np.asarray(leaf) for path, leaf in leaves}
    return {
        name: array.view(np.uint16) if array.dtype == jnp.bfloat16 else array
        for name, array in arrays.items()
    }


def export_retrieve(
    config: Config, retriever: Retriever, tree: Any, form: jax.ShapeDtypeStruct
) -> jax.export.Exported:
    """The function (arrays of `to_arrays(tree)`, queries [batch, *form.shape]) -> results."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)

    def from_arrays(arrays: dict[str, jax.Array]) -> Any:
        values = []
        for path, leaf in leaves:
            value = arrays[_name(path)]
            if leaf.dtype == jnp.bfloat16:
                value = jax.lax.bitcast_convert_type(value, jnp.bfloat16)
            values.append(value)
        return jax.tree_util.tree_unflatten(structure, values)

    def function(arrays: dict[str, jax.Array], queries: jax.Array) -> dict[str, Any]:
        given = from_arrays(arrays)
        found = retrieve(
            retriever.model,
            given["params"],
            queries,
            retriever.model.source_mask(queries),
            given["trie"],
            retriever.vocabulary.first_id_token,
            config.retrieve.beams,
            config.retrieve.k,
            given["mask"],
            config.retrieve.normalize_over,
        )
        return {"documents": found.documents, "scores": found.scores, "exact": found.exact}

    shapes = {
        name: jax.ShapeDtypeStruct(array.shape, array.dtype)
        for name, array in to_arrays(tree).items()
    }
    (batch,) = jax.export.symbolic_shape("batch")
    queries = jax.ShapeDtypeStruct((batch, *form.shape), form.dtype)
    return jax.export.export(jax.jit(function), platforms=PLATFORMS)(shapes, queries)


def _name(path: tuple[Any, ...]) -> str:
    """A leaf's path as a/b/0."""
    return jax.tree_util.keystr(path, simple=True, separator="/")
