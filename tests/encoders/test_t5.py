"""T5's encoder beside T5 written out with loops, on any batching and any devices."""

import dataclasses
import os
import pathlib
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

from catid2_jax.checkpoints.folder import write_checkpoint
from catid2_jax.checkpoints.tree import unflatten
from catid2_jax.docids.vocabulary import Vocabulary
from catid2_jax.encoders.encoder import encode_texts
from catid2_jax.encoders.t5 import T5Encoder, load_t5_encoder
from tests.checkpoints.examples import TIED, UNTIED, WORDS, random_checkpoint, write_vocabulary
from tests.reference import t5 as reference

SCRIPT = pathlib.Path(__file__).parent / "sharded_embedding.py"


def random_texts(count):
    generator = np.random.default_rng(count)
    return ["", *(" ".join(generator.choice(WORDS, n)) for n in generator.integers(0, 20, count))]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    path = write_vocabulary(tmp_path_factory.mktemp("vocabulary") / "spiece.model")
    return Vocabulary(path, 0, 0)


def make(checkpoint, vocabulary, max_tokens=300):
    return T5Encoder(
        checkpoint.config,
        unflatten(checkpoint.params),
        lambda text: [*vocabulary.text_ids(text), vocabulary.end],
        vocabulary.model,
        max_tokens,
    )


def by_hand(checkpoint, tokens):
    params = unflatten({n: np.float64(leaf) for n, leaf in checkpoint.params.items()})
    return reference.encode(params, tokens, checkpoint.config.num_heads, 32, 128).mean(axis=0)


@pytest.mark.parametrize("config", [UNTIED, TIED], ids=["1.1", "1.0"])
def test_it_is_the_mean_of_the_last_states(config, vocabulary):
    checkpoint = random_checkpoint(config)
    texts = random_texts(8)
    found, lengths = encode_texts(texts, make(checkpoint, vocabulary), 256)
    tokens = [[*vocabulary.text_ids(text), vocabulary.end] for text in texts]
    expected = np.array([by_hand(checkpoint, ids) for ids in tokens])
    assert lengths.tolist() == [len(ids) for ids in tokens]
    assert expected.std() > 0.1
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_checkpoint_without_a_decoder_gives_the_same_vectors(tmp_path, vocabulary):
    whole = random_checkpoint(UNTIED)
    write_checkpoint(tmp_path / "whole", "huggingface", whole, vocabulary)
    shutil.copytree(tmp_path / "whole", tmp_path / "encoder")
    (tmp_path / "encoder/catid2.json").unlink()
    file = tmp_path / "encoder/model.safetensors"
    weights = safetensors.numpy.load_file(file)
    kept = {n: w for n, w in weights.items() if n.startswith(("shared.", "encoder."))}
    assert len(kept) < len(weights)
    safetensors.numpy.save_file(kept, file)
    one, other = (
        encode_texts(random_texts(5), load_t5_encoder(str(tmp_path / name), "", 300), 64)[0]
        for name in ("whole", "encoder")
    )
    np.testing.assert_array_equal(one, other)


def test_a_longer_text_is_cut_and_still_ends(vocabulary):
    checkpoint = random_checkpoint(UNTIED)
    text = "red shoe garden hose tea mug"
    ids = vocabulary.text_ids(text)
    found, lengths = encode_texts([text, "tea"], make(checkpoint, vocabulary, 5), 64)
    assert lengths.tolist() == [len(ids) + 1, len(vocabulary.text_ids("tea")) + 1]
    expected = by_hand(checkpoint, [*ids[:4], vocabulary.end])
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_a_text_of_no_token_is_a_vector_of_zeros():
    checkpoint = random_checkpoint(UNTIED)
    params = unflatten(checkpoint.params)
    encoder = T5Encoder(checkpoint.config, params, lambda text: [], b"", 8)
    found, lengths = encode_texts(["a", "b"], encoder, 64)
    np.testing.assert_array_equal(found, np.zeros((2, 12)))
    assert lengths.tolist() == [0, 0]


def test_the_vectors_do_not_depend_on_the_batches(vocabulary):
    texts = random_texts(40)
    encoder = make(random_checkpoint(UNTIED), vocabulary, 100)
    expected = np.concatenate([encode_texts([text], encoder, 1)[0] for text in texts])
    order = np.random.default_rng(2).permutation(len(texts))
    for batch_tokens in (100, 10**4):
        found, _ = encode_texts(texts, encoder, batch_tokens)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        found, _ = encode_texts([texts[i] for i in order], encoder, batch_tokens)
        np.testing.assert_allclose(found, expected[order], atol=1e-5)


def test_the_key_is_of_weights_tokens_and_length(vocabulary):
    checkpoint = random_checkpoint(UNTIED)
    other = dict(checkpoint.params)
    name = "encoder/layers_1/mlp/wo/kernel"
    other[name] = other[name] + np.eye(*other[name].shape, dtype=np.float32)
    decoder = dict(checkpoint.params)
    decoder["decoder/decoder_norm/scale"] = decoder["decoder/decoder_norm/scale"] + 1
    config = dataclasses.replace(UNTIED, relative_attention_max_distance=64)

    keys = [
        make(checkpoint, vocabulary).key,
        make(checkpoint, vocabulary, 50).key,
        make(dataclasses.replace(checkpoint, params=other), vocabulary).key,
        make(dataclasses.replace(checkpoint, config=config), vocabulary).key,
        T5Encoder(UNTIED, unflatten(checkpoint.params), lambda text: [1], b"other", 300).key,
    ]
    assert len(set(keys)) == len(keys)
    same = dataclasses.replace(checkpoint, params=decoder)
    assert make(same, vocabulary).key == keys[0]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The vectors and each process's number of texts, by devices; "2 x 2" for two processes."""
    root = tmp_path_factory.mktemp("devices")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    runs = {"1": [()], "8": [()], "2 x 2": [(port, 2, 0), (port, 2, 1)]}
    for name, distributed in runs.items():
        (root / name).mkdir()
        processes = []
        environment = os.environ | {
            "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} "
            f"--xla_force_host_platform_device_count={name[0]}",
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": str(SCRIPT.parent.parent.parent),
        }
        for arguments in distributed:
            command = [sys.executable, SCRIPT, root / name, *map(str, arguments)]
            processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE))
        for process in processes:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors.decode()[-2000:]
    return {
        name: (
            np.load(root / name / "embeddings.npy"),
            sorted(int(path.read_text()) for path in (root / name).glob("process.*")),
            sorted(path.name for path in (root / name).glob("embeddings*")),
        )
        for name in runs
    }


@pytest.mark.slow
def test_the_vectors_do_not_depend_on_devices_and_processes(results):
    expected = results["1"][0]
    assert expected.std() > 0.1
    for name in ("8", "2 x 2"):
        np.testing.assert_allclose(results[name][0], expected, atol=1e-5)


def test_processes_share_the_texts_and_leave_one_file(results):
    assert results["1"][1] == [70]
    assert results["2 x 2"][1] == [30, 40]
    for _, _, files in results.values():
        assert files == ["embeddings.npy"]
