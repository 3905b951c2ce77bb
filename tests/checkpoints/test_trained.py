import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax import convert_checkpoint
from catid2_jax.checkpoints.folder import load_pretrained, read_checkpoint
from catid2_jax.checkpoints.trained import read_codebooks
from catid2_jax.checkpoints.tree import IdTokens, flatten
from catid2_jax.config import Config, Seq2SeqConfig
from catid2_jax.docids.vocabulary import Vocabulary
from catid2_jax.errors import InputError
from catid2_jax.models.rqvae import RQVAE, RQVAEConfig
from catid2_jax.models.t5.network import Transformer
from catid2_jax.progress import console
from catid2_jax.steps.workdir import Workdir, relevant_config, write_record
from catid2_jax.training.checkpoint import Checkpoints
from catid2_jax.training.loop import TrainState
from catid2_jax.training.optimizer import TrainingConfig, make_optimizer
from tests.checkpoints.examples import UNTIED

RQVAE_CONFIG = RQVAEConfig(hidden_dims=(6, 4), levels=3, codebook_size=50, category_levels=2)
CONFIG = Config(
    rqvae=RQVAE_CONFIG,
    seq2seq=Seq2SeqConfig(extra_ids=20),
    t5=dataclasses.replace(UNTIED, dropout_rate=0.2, mlp_activations=("silu", "linear")),
)


def random_state(seed, module, *arguments):
    """A state whose parameters are all drawn, so that none is like another."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *arguments)["params"]
    generator = np.random.default_rng(seed)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(generator.normal(size=leaf.shape), leaf.dtype), shapes
    )
    return TrainState(jnp.int32(8), params, make_optimizer(TrainingConfig(), 1).init(params))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, spiece):
    """A work directory as training leaves it, and the parameters of its two checkpoints."""
    workdir = Workdir(tmp_path_factory.mktemp("run"))
    workdir.vocabulary.write_bytes(spiece.read_bytes())
    vocabulary = Vocabulary(spiece, 3, 50, 20)
    tokens = jnp.zeros((1, 1), jnp.int32)
    model = Transformer(CONFIG.t5, vocabulary.rows)
    states = {
        "best": random_state(0, model, tokens, tokens == 0, tokens),
        "last": random_state(1, model, tokens, tokens == 0, tokens),
        "rqvae": random_state(2, RQVAE(RQVAE_CONFIG, 7), jnp.zeros((1, 7))),
    }
    with Checkpoints(workdir.checkpoints("seq2seq"), best_metric="x") as checkpoints:
        checkpoints.save_if_best(5, states["best"], {"x": 1.0})
        checkpoints.save(8, states["last"])
    with Checkpoints(workdir.checkpoints("rqvae")) as checkpoints:
        checkpoints.save(2, states["rqvae"])
    params = {name: state.params for name, state in states.items()}
    for step, sections in (
        ("train_rqvae", ("rqvae", "loss_weights", "rqvae_training")),
        ("train_seq2seq", ("seq2seq", "t5", "seq2seq_training")),
    ):
        write_record(workdir.record(step), relevant_config(CONFIG, sections), 1.0)
    return workdir.root, params, vocabulary


@pytest.mark.parametrize(("which", "step"), [("last", 8), ("best", 5)])
def test_stage_2(trained, which, step):
    root, params, vocabulary = trained
    found = read_checkpoint(root, which)
    assert found.step == step
    assert found.config == CONFIG.t5
    assert found.id_tokens == IdTokens(vocabulary.first_id_token, 3, 50)
    assert found.vocabulary == root / "vocabulary.model"
    expected = flatten(params[which])
    assert found.params.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found.params[name], array, name)


def test_both_checkpoints_can_be_converted(trained, tmp_path):
    root, params, vocabulary = trained
    for flags, which in (([], "last"), (["--which=best"], "best")):
        to = tmp_path / which
        with console.capture():
            convert_checkpoint.main([f"--from={root}", f"--to={to}", "--format=t5x", *flags])
        found = read_checkpoint(to)
        assert found.id_tokens == IdTokens(vocabulary.first_id_token, 3, 50)
        assert found.vocabulary.read_bytes() == vocabulary.model
        for name, array in flatten(params[which]).items():
            np.testing.assert_array_equal(found.params[name], array, name)


def test_stage_2_goes_on_from_another_run(trained):
    root, params, vocabulary = trained
    found = load_pretrained(root, CONFIG.t5, vocabulary)
    jax.tree.map(np.testing.assert_array_equal, found, params["last"])


def test_codebooks(trained, tmp_path):
    root, params, _ = trained
    expected = params["rqvae"]["quantizer"]["codebooks"]
    assert expected.shape[:2] == (3, 50)
    np.testing.assert_array_equal(read_codebooks(root), expected)
    np.save(tmp_path / "codebooks.npy", expected)
    np.testing.assert_array_equal(read_codebooks(tmp_path / "codebooks.npy"), expected)


def test_no_codebooks(trained, tmp_path):
    with pytest.raises(InputError, match="rqvae/best: found no checkpoint"):
        read_codebooks(trained[0], "best")
    with pytest.raises(InputError, match=r"x\.npy: found no readable file"):
        read_codebooks(tmp_path / "x.npy")
    (tmp_path / "x.npy").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="found no array"):
        read_codebooks(tmp_path / "x.npy")
    for array in (np.ones((3, 4)), np.ones((2, 3, 4), int), np.full((2, 3, 4), np.nan)):
        np.save(tmp_path / "x.npy", array)
        with pytest.raises(
            InputError, match=r"expected codebooks \[levels, codebook_size, width\] "
        ):
            read_codebooks(tmp_path / "x.npy")


def test_no_stage_2_and_no_record(trained, tmp_path):
    (tmp_path / "seq2seq").mkdir()
    (tmp_path / "steps").mkdir()
    with pytest.raises(InputError, match="steps: found no record of the configuration of rqvae"):
        read_checkpoint(tmp_path)
    for step in ("train_rqvae", "train_seq2seq"):
        record = json.loads((trained[0] / f"steps/{step}.json").read_text())
        (tmp_path / f"steps/{step}.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="seq2seq/last: found no checkpoint, expected a trained"):
        read_checkpoint(tmp_path)
