import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax import convert_checkpoint
from catid2_jax.checkpoints.folder import load_pretrained, read_checkpoint
from catid2_jax.checkpoints.trained import read_codebooks
from catid2_jax.checkpoints.tree import IdTokens, flatten
from catid2_jax.config import Config
from catid2_jax.docids.vocabulary import Vocabulary
from catid2_jax.encoders.t5 import load_t5_encoder
from catid2_jax.errors import InputError
from catid2_jax.files import file_digest, read_sealed, write_sealed
from catid2_jax.loading import TRAINED_READS
from catid2_jax.models.rqvae import RQVAE, RQVAEConfig
from catid2_jax.models.t5.network import Transformer
from catid2_jax.progress import console
from catid2_jax.records import SYSTEM_ORDER, choose_system, read_record, systems_in
from catid2_jax.seq2seq.config import Seq2SeqConfig
from catid2_jax.systems import SYSTEMS
from catid2_jax.training.checkpoint import Checkpoints
from catid2_jax.training.loop import TrainState
from catid2_jax.training.optimizer import TrainingConfig, make_optimizer
from catid2_jax.workdir import Record, Workdir, record_path, relevant_values, write_record
from tests.checkpoints.examples import UNTIED

RQVAE_CONFIG = RQVAEConfig(hidden_dims=(6, 4), levels=3, codebook_size=50, category_levels=2)
CONFIG = Config(
    # The shape of the IDs is what the step that made them says; another scheme has no such section.
    rqvae=dataclasses.replace(RQVAE_CONFIG, levels=4, codebook_size=7),
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
    """A work directory as training leaves it, and the parameters of its two checkpoints.

    Beside the trained system there is one with IDs alone, which comes before it, and one that has
    been trained, too, which comes after it.
    """
    workdir = Workdir(tmp_path_factory.mktemp("run"))
    folder = workdir.root / "tiger"
    workdir.vocabulary.write_bytes(spiece.read_bytes())
    vocabulary = Vocabulary(spiece, 3, 50, 20)
    tokens = jnp.zeros((1, 1), jnp.int32)
    model = Transformer(CONFIG.t5, vocabulary.rows)
    states = {
        "best": random_state(0, model, tokens, tokens == 0, tokens),
        "last": random_state(1, model, tokens, tokens == 0, tokens),
        "rqvae": random_state(2, RQVAE(RQVAE_CONFIG, 7), jnp.zeros((1, 7))),
    }
    with Checkpoints(folder / "seq2seq", best_metric="x") as checkpoints:
        checkpoints.save_if_best(5, states["best"], {"x": 1.0})
        checkpoints.save(8, states["last"])
    with Checkpoints(folder / "rqvae") as checkpoints:
        checkpoints.save(2, states["rqvae"])
    params = {name: state.params for name, state in states.items()}
    (workdir.root / "steps").mkdir()
    write_record(record_path(workdir.root, "prepare"), Record({}, done=True))
    shape = Record({}, "tiger", True, 1.0, {"levels": 3, "codebook_size": 50})
    stage2 = Record(relevant_values(CONFIG, TRAINED_READS), "tiger", True, 1.0)
    for name in ("cat_id2", "tiger", "table3_hccl"):
        write_record(record_path(workdir.root / name, "docids"), shape)
    for name in ("tiger", "table3_hccl"):
        write_record(record_path(workdir.root / name, "train_seq2seq"), stage2)
    return workdir.root, params, vocabulary


@pytest.mark.parametrize("of", ["work directory", "system"])
@pytest.mark.parametrize(("which", "step"), [("last", 8), ("best", 5)])
def test_stage_2(trained, which, step, of):
    root, params, vocabulary = trained
    found = read_checkpoint(root / "tiger" if of == "system" else root, which)
    assert found.step == step
    assert found.config == CONFIG.t5
    assert found.id_tokens == IdTokens(vocabulary.first_id_token, 3, 50)
    assert found.vocabulary == root / "vocabulary.model"
    expected = flatten(params[which])
    assert found.params.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found.params[name], array, name)


def test_another_vocabulary_than_it_was_trained_with(trained, tmp_path):
    copy = shutil.copytree(trained[0], tmp_path / "run")
    vocabulary, path = copy / "vocabulary.model", record_path(copy / "tiger", "train_seq2seq")
    record = dataclasses.replace(
        read_record(path), built_on={"vocabulary.model": file_digest(vocabulary)}
    )
    write_record(path, record)
    assert read_checkpoint(copy / "tiger").vocabulary == vocabulary
    write_record(path, dataclasses.replace(record, built_on={"vocabulary.model": "another"}))
    with pytest.raises(InputError) as error:
        read_checkpoint(copy / "tiger")
    assert error.value.where == str(vocabulary)
    assert error.value.found == f"another vocabulary than {copy / 'tiger'} was trained with"


def test_a_vocabulary_of_its_own(trained, spiece, tmp_path):
    root, _, _ = trained
    folder = tmp_path / "tiger"
    shutil.copytree(root / "tiger", folder)
    path = folder / "steps/train_seq2seq.json"
    record = read_sealed(path)
    record["config"]["seq2seq"]["vocabulary"] = str(spiece)
    write_sealed(path, record)
    assert read_checkpoint(folder).vocabulary == spiece


def test_both_checkpoints_can_be_converted(trained, tmp_path):
    root, params, vocabulary = trained
    for flags, which in (([], "last"), (["--which=best"], "best")):
        to = tmp_path / which
        paths = [f"--from={root}", f"--to={to}", "--format=t5x"]
        with console.capture():
            convert_checkpoint.main(["convert_checkpoint", *paths, *flags])
        found = read_checkpoint(to)
        assert found.id_tokens == IdTokens(vocabulary.first_id_token, 3, 50)
        assert found.vocabulary.read_bytes() == vocabulary.model
        for name, array in flatten(params[which]).items():
            np.testing.assert_array_equal(found.params[name], array, name)


@pytest.mark.parametrize("over", ["full", "level"])
def test_a_conversion_says_what_a_search_elsewhere_must_normalize_over(trained, tmp_path, over):
    folder = tmp_path / "tiger"
    shutil.copytree(trained[0] / "tiger", folder)
    shutil.copy(trained[0] / "vocabulary.model", tmp_path)
    path = folder / "steps/train_seq2seq.json"
    record = read_sealed(path)
    record["config"]["seq2seq"]["objective"]["normalize_over"] = over
    write_sealed(path, record)
    with console.capture() as capture:
        convert_checkpoint.main(
            ["convert_checkpoint", f"--from={folder}", f"--to={tmp_path / 'to'}", "--format=t5x"]
        )
    assert ("NORMALIZE_OVER = 'level'" in capture.get()) == (over == "level")


def test_stage_2_goes_on_from_another_run(trained):
    root, params, vocabulary = trained
    found = load_pretrained(root, CONFIG.t5, vocabulary)
    jax.tree.map(np.testing.assert_array_equal, found, params["last"])


def test_stage_2_is_an_encoder(trained):
    root, _, _ = trained
    encoder = load_t5_encoder(str(root), "", 8)
    texts = ["red shoe", "steel kettle"]
    items, _ = encoder.tokenize(texts)
    found = encoder.encode_batch(items, 2, 8)
    same = load_t5_encoder(str(root / "tiger"), str(root / "vocabulary.model"), 8)
    assert found.shape == (2, CONFIG.t5.emb_dim)
    assert encoder.key == same.key
    np.testing.assert_array_equal(found, same.encode_batch(items, 2, 8))


@pytest.mark.parametrize("of", ["", "tiger"])
def test_codebooks(trained, tmp_path, of):
    root, params, _ = trained
    expected = params["rqvae"]["quantizer"]["codebooks"]
    assert expected.shape[:2] == (3, 50)
    np.testing.assert_array_equal(read_codebooks(root / of), expected)
    np.save(tmp_path / "codebooks.npy", expected)
    np.testing.assert_array_equal(read_codebooks(tmp_path / "codebooks.npy"), expected)


def test_no_codebooks(trained, tmp_path):
    with pytest.raises(InputError, match="tiger/rqvae/best: found no checkpoint"):
        read_codebooks(trained[0], "best")
    with pytest.raises(InputError, match="rqvae/last: found no checkpoint"):
        read_codebooks(tmp_path)
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
    folder = tmp_path / "tiger"
    (folder / "seq2seq").mkdir(parents=True)
    (folder / "steps").mkdir()
    with pytest.raises(InputError, match="tiger/steps: found no record of train_seq2seq"):
        read_checkpoint(folder)
    for step, missing in (
        ("train_seq2seq", "tiger/steps: found no record of docids"),
        ("docids", "seq2seq/last: found no checkpoint, expected a trained"),
    ):
        record = (trained[0] / f"tiger/steps/{step}.json").read_text()
        (folder / f"steps/{step}.json").write_text(record)
        with pytest.raises(InputError, match=missing):
            read_checkpoint(folder)


@pytest.mark.parametrize(
    ("section", "field", "value", "expected"),
    [
        ("t5", "memory_tokens", 4, r"reads vectors \(memory_tokens = 4\), expected a T5"),
        ("seq2seq", "decoder", "pawa", "a network of the decoder 'pawa', expected that of 't5'"),
    ],
)
def test_a_network_that_is_no_t5_of_texts(trained, tmp_path, section, field, value, expected):
    shutil.copytree(trained[0] / "tiger", tmp_path / "tiger")
    path = tmp_path / "tiger/steps/train_seq2seq.json"
    record = read_sealed(path)
    record["config"][section][field] = value
    write_sealed(path, record)
    with pytest.raises(InputError, match=expected):
        read_checkpoint(tmp_path / "tiger")


def test_a_work_directory_of_another_version(trained, tmp_path):
    """One of format 1 has no systems: its stage 2 lies in the root, its records say no format."""
    shutil.copytree(trained[0] / "tiger", tmp_path / "old")
    path = tmp_path / "old/steps/train_seq2seq.json"
    record = read_sealed(path)
    del record["format"]
    write_sealed(path, record)
    with pytest.raises(InputError, match="work directory of format 1, made by another version"):
        read_checkpoint(tmp_path / "old")


def test_a_work_directory_without_a_trained_system(tmp_path):
    write_record(record_path(tmp_path, "prepare"), Record({}, done=True))
    with pytest.raises(InputError, match=r"found steps, expected T5X's .* a work directory with a"):
        read_checkpoint(tmp_path)
    write_record(record_path(tmp_path / "given", "docids"), Record({}, done=True))
    with pytest.raises(InputError, match="given/steps: found no record of train_seq2seq"):
        read_checkpoint(tmp_path)


def test_the_systems_of_a_work_directory(trained, tmp_path):
    root, _, _ = trained
    assert tuple(SYSTEMS)[: len(SYSTEM_ORDER)] == SYSTEM_ORDER
    assert systems_in(root) == ["cat_id2", "tiger", "table3_hccl"]
    assert choose_system(root) == "tiger"  # the first that is trained
    assert choose_system(root, "cat_id2") == "cat_id2"
    assert choose_system(root, steps=("docids", "train_seq2seq")) == "cat_id2"
    assert choose_system(root, steps=("retrieve", "train_seq2seq")) == "tiger"
    assert choose_system(root, steps=("retrieve",)) == "cat_id2"  # none: the first of all
    with pytest.raises(InputError) as error:
        choose_system(root, "bm25")
    fields = (str(root), "no system 'bm25'", "one of cat_id2, tiger, table3_hccl")
    assert error.value.args == fields
    for path, found in ((tmp_path / "none", "no such folder"), (tmp_path, "no steps/")):
        with pytest.raises(InputError) as error:
            choose_system(path)
        assert error.value.args[:2] == (str(path), found)
    (tmp_path / "steps").mkdir()
    with pytest.raises(InputError, match="found no system with a finished step"):
        choose_system(tmp_path)
