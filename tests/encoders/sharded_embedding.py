"""Embeds 70 texts in shards of 10 on the devices there are; run as a script by test_t5.py.

python sharded_embedding.py FOLDER [PORT PROCESSES PROCESS]
"""

import pathlib
import sys

import jax

if len(sys.argv) > 2:
    port, processes, process = map(int, sys.argv[2:])
    jax.distributed.initialize(f"localhost:{port}", processes, process)

import numpy as np

from catid2_jax.checkpoints.tree import unflatten
from catid2_jax.encoders.encoder import BatchedEncoder, embed_in_shards
from catid2_jax.encoders.t5 import T5Encoder
from tests.checkpoints.examples import UNTIED, random_checkpoint


def main(folder: pathlib.Path) -> None:
    generator = np.random.default_rng(0)
    texts = [" ".join(map(str, generator.integers(1, 128, n))) for n in 7 * [*range(15, 25)]]
    encoded = []

    def token_ids(text):
        encoded.append(text)
        return [int(word) for word in text.split()]

    encoder = T5Encoder(UNTIED, unflatten(random_checkpoint(UNTIED).params), token_ids, b"", 20)
    embed_in_shards(texts, BatchedEncoder(encoder, 512), folder / "embeddings.npy", 10)
    (folder / f"process.{jax.process_index()}").write_text(str(len(encoded)))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
