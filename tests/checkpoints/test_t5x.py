import dataclasses
import re
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest

from catid2_jax.checkpoints.folder import read_checkpoint, write_checkpoint
from catid2_jax.checkpoints.tree import LOGITS, unflatten
from catid2_jax.errors import InputError
from tests.checkpoints.examples import UNTIED, assert_same, random_checkpoint
from tests.reference.t5x_legacy import write_legacy


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_legacy(tmp_path, version, dtype):
    expected = random_checkpoint(UNTIED, dtype=dtype)
    folder = tmp_path / "checkpoint_31"
    beside = "kernel" if version == 3 else ""
    write_legacy(folder, expected.params, 31, version, lambda name: beside in name)
    assert_same(read_checkpoint(folder), expected)


def test_the_last_of_several_checkpoints_is_taken(tmp_path, untied):
    for step in (9, 31, 4):
        params = {name: array * step for name, array in untied.params.items()}
        write_legacy(tmp_path / f"checkpoint_{step}", params, step, beside=lambda name: False)
    (tmp_path / "checkpoint_99.tmp-1").mkdir()
    found = read_checkpoint(tmp_path)
    assert found.step == 31
    np.testing.assert_array_equal(found.params[LOGITS], untied.params[LOGITS] * 31)


KERNEL = "target.decoder.logits_dense.kernel"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / KERNEL / "1.0").unlink(), f"no readable target/{LOGITS}"),
        (lambda p: cut(p / KERNEL / "0.1"), f"no readable target/{LOGITS}"),
        (lambda p: shutil.rmtree(p / KERNEL), f"no readable target/{LOGITS}"),
        (lambda p: cut(p / "checkpoint"), "no whole msgpack"),
        (lambda p: (p / "checkpoint").write_text("model_checkpoint_path: 'x'"), "msgpack"),
        (lambda p: (p / "checkpoint").write_bytes(b"\x81\xa7version\x01"), "version 1, .* 2 or 3"),
        (lambda p: (p / "checkpoint").unlink(), r"found target\.decoder"),
    ],
)
def test_damaged_legacy(tmp_path, untied, damage, message):
    folder = tmp_path / "checkpoint_31"
    write_legacy(folder, untied.params, 31)
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        read_checkpoint(folder)
    assert "\n" not in str(caught.value)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_orbax_of_t5x_with_an_optimizer(tmp_path, pretrained):
    # As T5X's CheckpointManager saves a train state: jax arrays, the item named "state".
    tree = {
        "target": unflatten(pretrained.params),
        "state": {"step": 31, "param_states": {"v": np.ones((3, 4), np.float32)}},
        "target_average": {"encoder": np.ones(3, np.float32)},
    }
    tree = jax.tree.map(jnp.asarray, tree)
    options = ocp.CheckpointManagerOptions(
        step_prefix="checkpoint", enable_async_checkpointing=False
    )
    with ocp.CheckpointManager(tmp_path, item_names=("state",), options=options) as manager:
        manager.save(31, args=ocp.args.Composite(state=ocp.args.PyTreeSave(tree)))
    assert_same(read_checkpoint(tmp_path), pretrained)
    assert_same(read_checkpoint(tmp_path / "checkpoint_31"), pretrained)


def test_what_is_written_is_what_t5x_restores(tmp_path, untied):
    write_checkpoint(tmp_path / "out", "t5x", untied)
    state = tmp_path / "out/checkpoint_31/state"
    assert (state / "manifest.ocdbt").is_file()
    restored = ocp.PyTreeCheckpointHandler().restore(state)
    assert restored.keys() == {"target", "state"}
    assert restored["state"].keys() == {"step"}
    assert (int(restored["state"]["step"]), restored["state"]["step"].dtype) == (31, np.int32)
    np.testing.assert_array_equal(
        restored["target"]["decoder"]["logits_dense"]["kernel"], untied.params[LOGITS]
    )


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_written_and_read(tmp_path, dtype):
    expected = random_checkpoint(UNTIED, dtype=dtype)
    write_checkpoint(tmp_path / "out", "t5x", expected)
    assert_same(read_checkpoint(tmp_path / "out"), expected)


def test_every_damage_of_orbax_files_is_seen(tmp_path, untied):
    write_checkpoint(tmp_path / "out", "t5x", untied)
    state = tmp_path / "out/checkpoint_31/state"
    files = [p for p in state.rglob("*") if p.is_file() and p.stat().st_size > 40]
    damages = []
    for number, file in enumerate(files):
        copy = tmp_path / str(number)
        shutil.copytree(tmp_path / "out", copy)
        (copy / file.relative_to(tmp_path / "out")).write_bytes(file.read_bytes()[:30])
        try:
            found = read_checkpoint(copy)
        except InputError as error:
            damages.append(str(error))
        else:  # a file that nothing is read from
            assert_same(found, untied)
    assert any("state: found no readable tree" in line for line in damages)
    assert any(re.search(r"state: found no readable \S+/\S+ \(", line) for line in damages)
    assert not any("\n" in line for line in damages)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.pop("encoder/encoder_norm/scale"), r"encoder_norm/scale of shape none, exp"),
        (lambda p: p.pop("token_embedder/embedding"), "found no token_embedder/embedding of two"),
        (
            lambda p: p.update({"decoder/layers_0/mlp/wo/kernel": np.ones((20, 13), np.float32)}),
            r"decoder/layers_0/mlp/wo/kernel of shape \(20, 13\), expected \(20, 12\)",
        ),
        (
            lambda p: p.update({"encoder/bias": np.ones(3, np.float32)}),
            r"encoder/bias of shape \(3,\), expected none",
        ),
        (
            lambda p: p["encoder/encoder_norm/scale"].__setitem__(3, np.nan),
            "NaN or infinity in encoder/encoder_norm/scale",
        ),
    ],
)
def test_what_is_not_a_t5_is_named(tmp_path, untied, change, message):
    params = dict(untied.params)
    change(params)
    write_legacy(tmp_path / "checkpoint_1", params, 1, beside=lambda name: False)
    with pytest.raises(InputError, match=message):
        read_checkpoint(tmp_path)


def test_far_positions_and_activations_come_from_the_note(tmp_path, untied):
    config = dataclasses.replace(
        UNTIED, relative_attention_max_distance=64, mlp_activations=("silu", "linear")
    )
    expected = dataclasses.replace(untied, config=config)
    write_checkpoint(tmp_path / "out", "t5x", expected)
    assert_same(read_checkpoint(tmp_path / "out"), expected)
    assert_same(read_checkpoint(tmp_path / "out/checkpoint_31"), expected)


def test_not_a_checkpoint(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        read_checkpoint(tmp_path / "missing")
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(InputError, match=r"found pytorch_model\.bin, expected T5X's checkpoint_N"):
        read_checkpoint(tmp_path)
