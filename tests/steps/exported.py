"""Uses exports with JAX, NumPy and SentencePiece alone: TEXTS.json DIRECTORY...

Every query is retrieved for in batches of the sizes in DIRECTORY/batches.json; the results go to
DIRECTORY/found.npz, under the batch size. If DIRECTORY has `other.npz`, arrays in it then take the
place of the export's for one more pass, "other". Nothing that the package is made with can be
imported.
"""

import json
import pathlib
import sys

import numpy as np

FORBIDDEN = {"catid2_jax", "flax", "ml_collections", "optax", "orbax", "tests"}


class Blocker:
    """Finds no module of those that must not be needed."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in FORBIDDEN:
            raise ImportError(f"{name} is not to be imported")


def tokens_of(directory, texts):
    import sentencepiece

    description = json.loads((directory / "export.json").read_text())
    length = description["source_tokens"]
    processor = sentencepiece.SentencePieceProcessor(str(directory / "vocabulary.model"))
    tokens = np.full((len(texts), length), description["pad"], np.int32)
    for row, pieces in enumerate(processor.encode(texts)):
        pieces = [*pieces[: length - 1], description["end"]]
        tokens[row, : len(pieces)] = pieces
    return tokens


def read_arrays(path):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def run(directory, texts):
    import jax
    import jax.export

    tokens = tokens_of(directory, texts)
    exported = jax.export.deserialize(bytearray((directory / "retrieve.stablehlo").read_bytes()))
    function = jax.jit(exported.call)
    arrays = read_arrays(directory / "arrays.npz")
    batches = json.loads((directory / "batches.json").read_text())
    passes = {str(batch): (batch, arrays) for batch in batches}
    if (directory / "other.npz").exists():
        passes["other"] = (batches[-1], arrays | read_arrays(directory / "other.npz"))
    results = {}
    for label, (batch, given) in passes.items():
        starts = range(0, len(texts), batch)
        parts = [function(given, tokens[start : start + batch]) for start in starts]
        for name in parts[0]:
            results[f"{label}/{name}"] = np.concatenate([part[name] for part in parts])
    np.savez(directory / "found.npz", **results)


def main(texts, *directories):
    sys.meta_path.insert(0, Blocker)
    for directory in directories:
        run(pathlib.Path(directory), json.loads(pathlib.Path(texts).read_text()))
    assert not FORBIDDEN & {name.partition(".")[0] for name in sys.modules}


if __name__ == "__main__":
    main(*sys.argv[1:])
