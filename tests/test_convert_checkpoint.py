import re

import numpy as np
import pytest

from catid2_jax import convert_checkpoint
from catid2_jax.checkpoints.folder import read_checkpoint, write_checkpoint
from catid2_jax.checkpoints.tree import EMBEDDING, IdTokens
from catid2_jax.docids.vocabulary import Vocabulary
from catid2_jax.progress import console
from tests.checkpoints.examples import UNTIED, assert_same, random_checkpoint, write_vocabulary
from tests.reference.t5x_legacy import write_legacy


@pytest.fixture
def spiece(tmp_path):
    return write_vocabulary(tmp_path / "spiece.model")


@pytest.fixture
def legacy(tmp_path):
    """A checkpoint as Google publishes them."""
    checkpoint = random_checkpoint(UNTIED)
    write_legacy(tmp_path / "google/checkpoint_31", checkpoint.params, 31)
    return tmp_path / "google", checkpoint


def main(*arguments):
    convert_checkpoint.main(["convert_checkpoint", *arguments])


def convert(source, to, kind, *flags):
    with console.capture() as capture:
        main(f"--from={source}", f"--to={to}", f"--format={kind}", *flags)
    return capture.get()


def test_from_google_to_both_forms_and_back(tmp_path, legacy, spiece):
    place, pretrained = legacy
    flags = [
        f"--vocabulary={spiece}",
        "--extra_ids=20",
        "--levels=3",
        "--codebook_size=50",
        "--seed=4",
    ]
    shown = convert(place, tmp_path / "t5x", "t5x", *flags)
    vocabulary = Vocabulary(spiece, 3, 50, 20)
    assert shown == f"{tmp_path / 't5x'}: step 31, 128 -> {vocabulary.rows} rows\n"
    grown = read_checkpoint(tmp_path / "t5x")
    first = vocabulary.first_id_token
    assert grown.id_tokens == IdTokens(first, 3, 50)
    np.testing.assert_array_equal(
        grown.params[EMBEDDING][:first], pretrained.params[EMBEDDING][:first]
    )
    # The vocabulary lies beside, so that no flag is needed any more.
    convert(tmp_path / "t5x", tmp_path / "hf", "huggingface")
    convert(tmp_path / "hf", tmp_path / "back", "t5x")
    assert_same(read_checkpoint(tmp_path / "back"), grown)
    convert(tmp_path / "back", tmp_path / "again", "huggingface")
    for name in ("model.safetensors", "config.json", "tokenizer.json", "spiece.model"):
        files = [(tmp_path / form / name).read_bytes() for form in ("hf", "again")]
        assert files[0] == files[1]
    # The seed says all.
    convert(place, tmp_path / "same", "t5x", *flags)
    assert_same(read_checkpoint(tmp_path / "same"), grown)
    convert(place, tmp_path / "other", "t5x", *flags[:-1], "--seed=5")
    other = read_checkpoint(tmp_path / "other").params[EMBEDDING]
    assert not np.array_equal(other[first:], grown.params[EMBEDDING][first:])


def test_without_a_vocabulary_nothing_grows(tmp_path, legacy):
    place, pretrained = legacy
    convert(place, tmp_path / "t5x", "t5x")
    assert_same(read_checkpoint(tmp_path / "t5x"), pretrained)
    assert not (tmp_path / "t5x/spiece.model").exists()


def test_codebooks(tmp_path, legacy, spiece):
    place, _ = legacy
    flags = [f"--vocabulary={spiece}", "--extra_ids=20", "--levels=3", "--codebook_size=50"]
    codebooks = np.random.default_rng(0).normal(size=(3, 50, 5)).astype(np.float32)
    np.save(tmp_path / "codebooks.npy", codebooks)
    codebook_flags = ["--init=codebooks", f"--codebooks={tmp_path / 'codebooks.npy'}"]
    convert(place, tmp_path / "one", "t5x", *flags, *codebook_flags)
    convert(place, tmp_path / "two", "t5x", *flags)
    one, two = (read_checkpoint(tmp_path / name).params[EMBEDDING] for name in ("one", "two"))
    first = Vocabulary(spiece, 3, 50, 20).first_id_token
    rows = one[first : first + 50].astype(np.float64)
    # A linear map of 5 dimensions: 12 columns, of rank 5 around their mean.
    assert np.linalg.matrix_rank(rows - rows.mean(0), tol=1e-4) == 5
    assert not np.allclose(one, two)


@pytest.fixture
def fixed(tmp_path, spiece):
    """A checkpoint of 3 x 50 ID tokens, with its vocabulary."""
    vocabulary = Vocabulary(spiece, 3, 50, 20)
    place = tmp_path / "fixed"
    convert_flags = [f"--vocabulary={spiece}", "--extra_ids=20", "--levels=3", "--codebook_size=50"]
    write_checkpoint(tmp_path / "plain", "t5x", random_checkpoint(UNTIED))
    convert(tmp_path / "plain", place, "t5x", *convert_flags)
    assert read_checkpoint(place).rows == vocabulary.rows
    return place


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--levels=4"], "found ID tokens of 3 x 50 codes from .*, expected 4 x 50 from"),
        (["--levels=-1"], "--levels: found -1, expected at least 0"),
        (["--codebook_size=-1"], "--codebook_size: found -1, expected at least 0"),
        (["--extra_ids=-1"], "--extra_ids: found -1, expected at least 0"),
        (["--seed=-1"], "--seed: found -1, expected at least 0"),
        (["--seed=4294967296"], "--seed: found 4294967296, expected at least 0 and at most 429"),
        (["--levels=three"], "command line: found argument --levels: invalid int value: 'three'"),
        (["--extra_ids=19"], "found ID tokens of 3 x 50 codes from"),
        (["--init=codebooks"], "--codebooks: found '', expected a path with --init=codebooks"),
        (["--codebooks=x.npy"], "--codebooks: found 'x.npy', expected a path with --init=codeb"),
        (["--vocabulary=missing.model"], r"missing.model: found no readable file \(No such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, fixed, flags, message, capsys):
    with pytest.raises(SystemExit) as caught:
        convert(fixed, tmp_path / "out", "t5x", *flags)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    assert re.search(message, error)
    assert not (tmp_path / "out").exists()


def test_another_vocabulary_than_the_checkpoints(tmp_path, legacy, spiece, capsys):
    with pytest.raises(SystemExit):
        convert(legacy[0], tmp_path / "out", "t5x", f"--vocabulary={spiece}", "--extra_ids=99")
    assert f"found {EMBEDDING} of 128 rows, expected" in capsys.readouterr().err


def test_hugging_faces_form_needs_a_vocabulary(tmp_path, legacy, capsys):
    with pytest.raises(SystemExit):
        convert(legacy[0], tmp_path / "out", "huggingface")
    assert (
        "error: --vocabulary: found none, expected one for Hugging Face's tokenizer"
        in capsys.readouterr().err
    )


def test_wrong_flags_are_named(capsys):
    for flags, found in (([], "--from"), (["--from=a", "--to=b", "--format=tf"], "'tf'")):
        with pytest.raises(SystemExit) as caught:
            main(*flags)
        assert caught.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: command line: found ")
        assert error.count("\n") == 1
        assert found in error


def test_the_help_explains_every_flag(capsys):
    with pytest.raises(SystemExit):
        main("--help")
    shown = capsys.readouterr().out
    for flag in ("from", "to", "format", "init", "which", "vocabulary", "levels", "codebook_size"):
        assert shown.count(f"--{flag}") >= 2  # among the flags, and in what is said of them
