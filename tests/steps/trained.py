"""A work directory that stage 2 has left, tiny and with random weights."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np

from catid2_jax.config import default_config, freeze, view
from catid2_jax.data.corpus import write_columns
from catid2_jax.docids.table import DocidTable, write_docids
from catid2_jax.docids.vocabulary import Vocabulary, train_vocabulary
from catid2_jax.evaluation.run_file import read_run
from catid2_jax.files import write_npy
from catid2_jax.models.t5.network import Transformer
from catid2_jax.resolution import resolve_system
from catid2_jax.steps import retrieve
from catid2_jax.training.checkpoint import Checkpoints
from catid2_jax.training.loop import TrainState
from catid2_jax.training.optimizer import make_optimizer
from catid2_jax.types import Product
from catid2_jax.workdir import Record, Workdir, place_of, record_path, write_record

N, L, K, D = 30, 3, 6, 4
IDS = [f"p{n}" for n in range(N)]
PATHS = [[("Home", "Lamps"), ("Home", "Rugs"), ("Toys",)][n % 3] for n in range(N)]
QUERIES = {"q0": "a red lamp", "q1": "rug", "q2": "toys for two", "q3": "lamp", "q4": "a red rug"}
CODES = np.random.default_rng(1).permutation(list(itertools.product(range(K), repeat=L)))[:N]
RNG = np.random.default_rng(2)
EMBEDDINGS = RNG.normal(size=(N, D)).astype(np.float32)
VECTORS = RNG.normal(size=(len(QUERIES), D)).astype(np.float16)


def config(level=2, **changes):
    """The configuration that it is of; `changes` are of the section `retrieve`."""
    values = default_config()
    values.systems = ("cat_id2",)
    values.rqvae.update(levels=L, codebook_size=K, category_levels=2)
    values.seq2seq.source_tokens = 6
    values.seq2seq.objective.normalize_over = "full"
    values.t5.update(
        emb_dim=16, num_heads=2, head_dim=8, mlp_dim=16, num_encoder_layers=1, num_decoder_layers=1
    )
    values.retrieve.update(beams=40, k=40, batch_size=3)
    values.options.clusters.level = level
    values.update_from_flattened_dict({f"retrieve.{name}": v for name, v in changes.items()})
    return freeze(values)


def resolved(workdir, name="cat_id2", **changes):
    """A system, and its place in the directory."""
    settings = config(**changes)
    system = resolve_system(name, settings)
    return system, place_of(system, settings, workdir)


def search(workdir, name="cat_id2", **changes):
    """What the step `retrieve`, which sees what it declares, finds by a system."""
    system, place = resolved(workdir, name, **changes)
    reads = (*retrieve.reads(system), system.option_names[1])
    retrieve.run(view(system.config, reads, "retrieve"), place, system)
    path = place.folder / system.config.retrieve.output
    return read_run(path) if path.read_text() else {}


def make(root):
    """The directory, and its network, parameters and vocabulary."""
    workdir = Workdir(root)
    place = resolved(workdir)[1]
    products = [Product(i, f"title {i}", "", path) for i, path in zip(IDS, PATHS, strict=True)]
    write_columns(workdir.catalog, enumerate(products))
    lines = [json.dumps({"id": q, "text": text}) for q, text in QUERIES.items()]
    workdir.queries("test").write_text("\n".join(lines))
    write_npy(place.embeddings, EMBEDDINGS)
    write_npy(workdir.root / "vectors.npy", VECTORS)
    write_npy(place.query_vectors("test"), VECTORS.astype(np.float32))
    write_docids(place.docids, DocidTable(IDS, CODES))
    shape = {"levels": L, "codebook_size": K}
    write_record(record_path(place.model, "docids"), Record({}, "cat_id2", True, 1.0, shape))
    workdir.vocabulary.write_bytes(train_vocabulary([*QUERIES.values(), "title of p"] * 3, 60))

    vocabulary = Vocabulary(workdir.vocabulary, L, K)
    model = Transformer(config().t5, vocabulary.rows)
    params = random_params(model, 3)
    with Checkpoints(place.model / "seq2seq") as checkpoints:
        checkpoints.save(1, state(1, params))
    return workdir, model, params, vocabulary


def random_params(model, seed):
    tokens = jnp.zeros((1, 1), jnp.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), tokens, tokens == 0, tokens)["params"]
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.4, s.shape), jnp.float32), shapes)


def state(step, params):
    """What a checkpoint holds."""
    optimizer = make_optimizer(config().seq2seq_training, 1)
    return TrainState(jnp.int32(step), params, optimizer.init(params))
