"""A work directory that stage 2 has left, tiny and with random weights."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np

from catid2_jax.config import default_config, freeze
from catid2_jax.data.catalog import write_catalog
from catid2_jax.docids.table import DocidTable, write_docids
from catid2_jax.docids.vocabulary import Vocabulary, train_vocabulary
from catid2_jax.files import write_npy
from catid2_jax.models.t5.network import Transformer
from catid2_jax.steps.workdir import Workdir
from catid2_jax.training.checkpoint import Checkpoints
from catid2_jax.training.loop import TrainState
from catid2_jax.training.optimizer import make_optimizer
from catid2_jax.types import Product

N, L, K, D = 30, 3, 6, 4
IDS = [f"p{n}" for n in range(N)]
PATHS = [[("Home", "Lamps"), ("Home", "Rugs"), ("Toys",)][n % 3] for n in range(N)]
QUERIES = {"q0": "a red lamp", "q1": "rug", "q2": "toys for two", "q3": "lamp", "q4": "a red rug"}
CODES = np.random.default_rng(1).permutation(list(itertools.product(range(K), repeat=L)))[:N]
RNG = np.random.default_rng(2)
EMBEDDINGS = RNG.normal(size=(N, D)).astype(np.float32)
VECTORS = RNG.normal(size=(len(QUERIES), D)).astype(np.float16)


def config(**changes):
    """The configuration that it is of; `changes` are of the section `retrieve`."""
    values = default_config()
    values.rqvae.update(levels=L, codebook_size=K, category_levels=2)
    values.seq2seq.source_tokens = 6
    values.t5.update(
        emb_dim=16, num_heads=2, head_dim=8, mlp_dim=16, num_encoder_layers=1, num_decoder_layers=1
    )
    values.retrieve.update(beams=40, k=40, batch_size=3)
    values.update_from_flattened_dict({f"retrieve.{name}": v for name, v in changes.items()})
    return freeze(values)


def make(root):
    """The directory, and its network, parameters and vocabulary."""
    workdir = Workdir(root)
    products = [Product(i, f"title {i}", "", path) for i, path in zip(IDS, PATHS, strict=True)]
    write_catalog(workdir.data / "catalog.jsonl", products)
    lines = [json.dumps({"id": q, "text": text}) for q, text in QUERIES.items()]
    (workdir.data / "queries.test.jsonl").write_text("\n".join(lines))
    write_npy(workdir.embeddings, EMBEDDINGS)
    (workdir.root / "embeddings.ids.txt").write_text("".join(f"{i}\n" for i in IDS))
    write_npy(workdir.root / "vectors.npy", VECTORS)
    write_docids(workdir.docids, DocidTable(IDS, CODES))
    workdir.vocabulary.write_bytes(train_vocabulary([*QUERIES.values(), "title of p"] * 3, 60))

    vocabulary = Vocabulary(workdir.vocabulary, L, K)
    model = Transformer(config().t5, vocabulary.rows)
    tokens = jnp.zeros((1, 1), jnp.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), tokens, tokens == 0, tokens)["params"]
    rng = np.random.default_rng(3)
    params = jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.4, s.shape), jnp.float32), shapes)
    optimizer = make_optimizer(config().seq2seq_training, 1)
    with Checkpoints(workdir.checkpoints("seq2seq")) as checkpoints:
        checkpoints.save(1, TrainState(jnp.int32(1), params, optimizer.init(params)))
    return workdir, model, params, vocabulary
