"""What is saved comes back, the best stays the best, and what is damaged is not trusted."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax.errors import InputError
from catid2_jax.files import DIGESTS, read_sealed
from catid2_jax.progress import console
from catid2_jax.training.checkpoint import Checkpoints, newest_step
from catid2_jax.training.loop import TrainState


def state(step, value=0.0):
    params = {"kernel": jnp.full((2, 3), value, jnp.float32), "narrow": jnp.ones(2, jnp.bfloat16)}
    return TrainState(jnp.int32(step), params, {"count": jnp.int32(step)}, jnp.arange(3.0))


def files(directory):
    return sorted(path.name for path in directory.iterdir() if path.name.isdigit())


def test_a_state_comes_back_bit_by_bit_and_in_its_types(tmp_path):
    values = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    original = state(7).replace(
        params={"kernel": jnp.asarray(values), "narrow": jnp.asarray(values[:, 0], jnp.bfloat16)}
    )
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(7, original)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step == 7
        restored = checkpoints.restore(jax.eval_shape(lambda: state(0)))
    for ours, theirs in zip(jax.tree.leaves(restored), jax.tree.leaves(original), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def test_the_last_checkpoint_and_the_one_before_are_kept(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (3, 6, 9):
            checkpoints.save(step, state(step, step))
        assert checkpoints.latest_step == 9
        assert checkpoints.best_step is None
    assert files(tmp_path / "last") == ["6", "9"]


@pytest.mark.parametrize(
    ("mode", "values", "best"),
    [
        ("max", [0.5, 0.7, 0.7, 0.6], 2),
        ("min", [0.5, 0.7, 0.5, 0.6], 1),
        ("max", [-0.5, -0.3, -0.4, -0.9], 2),
        ("min", [0.5, 0.4, 0.0, -0.1], 4),
    ],
)
@pytest.mark.parametrize("reopened", [False, True])
def test_the_best_is_the_first_of_the_best_figure(tmp_path, mode, values, best, reopened):
    checkpoints = Checkpoints(tmp_path, "figure", mode)
    for step, value in enumerate(values, 1):
        checkpoints.save_if_best(step, state(step, value), {"figure": value, "other": 9.0})
        if reopened:
            checkpoints.__exit__()
            checkpoints = Checkpoints(tmp_path, "figure", mode)
    with checkpoints:
        assert checkpoints.best_step == best
        restored = checkpoints.restore(state(0), "best")
        assert checkpoints.latest_step is None  # there is no last one beside it
    assert int(restored.step) == best
    np.testing.assert_array_equal(restored.params["kernel"], np.float32(values[best - 1]))
    assert files(tmp_path / "best")[-1] == str(best)
    record = read_sealed(tmp_path / "best" / str(best) / DIGESTS)
    assert (record["metric"], record["value"]) == ("figure", values[best - 1])


def test_a_kill_between_the_state_and_its_digests(tmp_path):
    """The same evaluation comes again after a resumption, and its state is saved again."""
    with Checkpoints(tmp_path, "figure") as checkpoints:
        checkpoints.save_if_best(1, state(1), {"figure": 0.1})
        checkpoints.save_if_best(2, state(2), {"figure": 0.2})
    (tmp_path / "best/2" / DIGESTS).unlink()
    with Checkpoints(tmp_path, "figure") as checkpoints, console.capture() as capture:
        assert checkpoints.best_step == 1
        checkpoints.save_if_best(2, state(2), {"figure": 0.2})
        assert checkpoints.best_step == 2
        assert int(checkpoints.restore(state(0), "best").step) == 2
    assert capture.get() == (
        f"warning: the checkpoint {tmp_path}/best/2 is left out: no digests.json, so that saving "
        "it was cut short\n"
    )
    assert read_sealed(tmp_path / "best/2" / DIGESTS)["value"] == 0.2


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two checkpoints, and the paths of the newer one's files."""
    folder = tmp_path_factory.mktemp("two")
    with Checkpoints(folder) as checkpoints:
        for step in (3, 6):
            checkpoints.save(step, state(step, step))
    newer = folder / "last/6"
    return folder, [p.relative_to(folder) for p in sorted(newer.rglob("*")) if p.is_file()]


def flip(path, position, bit):
    """Flips a bit of a file, at a share of its length."""
    content = bytearray(path.read_bytes())
    if not content:
        return path.write_bytes(b"x")
    content[int(position * len(content))] ^= 1 << bit
    return path.write_bytes(content)


@pytest.mark.parametrize("position", [0.0, 0.4, 0.99])
def test_a_flipped_bit_in_any_file_falls_back_to_the_checkpoint_before(two, tmp_path, position):
    source, names = two
    for number, name in enumerate(names):
        folder = tmp_path / str(number)
        shutil.copytree(source, folder)
        flip(folder / name, position, number % 8)
        with Checkpoints(folder, read_only=True) as checkpoints, console.capture() as capture:
            restored = checkpoints.restore(state(0))
        assert capture.get().startswith(f"warning: the checkpoint {folder}/last/6 is left out: ")
        assert int(restored.step) == 3
        np.testing.assert_array_equal(restored.params["kernel"], np.full((2, 3), 3.0))


def test_a_damaged_checkpoint_is_saved_again(two, tmp_path):
    shutil.copytree(two[0], tmp_path / "copy")
    for name in two[1]:
        if "/d/" in str(name):
            (tmp_path / "copy" / name).unlink()
    with console.capture(), Checkpoints(tmp_path / "copy") as checkpoints:
        assert checkpoints.latest_step == 3
        checkpoints.save(6, state(6, 7.0))
    assert files(tmp_path / "copy/last") == ["3", "6"]
    with Checkpoints(tmp_path / "copy") as checkpoints:
        assert checkpoints.restore(state(0)).params["kernel"][0, 0] == 7.0


def test_where_all_checkpoints_are_damaged_there_is_none(two, tmp_path):
    shutil.copytree(two[0], tmp_path / "copy")
    for path in (tmp_path / "copy/last").rglob(DIGESTS):
        flip(path, 0.5, 1)
    with console.capture() as capture:
        assert newest_step(tmp_path / "copy/last") is None
    assert capture.get().count("is left out: digests.json: ") == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_state_that_is_not_finite_is_not_saved(tmp_path, bad):
    broken = state(2)
    broken.params["kernel"] = broken.params["kernel"].at[1, 2].set(bad)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state(1))
        with pytest.raises(InputError) as caught:
            checkpoints.save(2, broken)
        assert checkpoints.latest_step == 1
    assert caught.value.found == "NaN or infinity in params/kernel"
    assert files(tmp_path / "last") == ["1"]


def test_who_only_reads_leaves_the_directory_as_it_is(two, tmp_path):
    shutil.copytree(two[0], tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy/best")
    unfinished = tmp_path / "copy/last/9.orbax-checkpoint-tmp-1"
    unfinished.mkdir()
    with Checkpoints(tmp_path / "copy", read_only=True) as checkpoints:
        assert checkpoints.best_step is None
        assert int(checkpoints.restore(state(0)).step) == 6
    assert unfinished.exists()
    assert not (tmp_path / "copy/best").exists()


def test_what_is_hardly_better_is_not_the_best(tmp_path):
    values = [0.5, 0.55, 0.6, 0.65, 0.75]
    with Checkpoints(tmp_path, "figure", best_margin=0.09) as checkpoints:
        best = []
        for step, value in enumerate(values, 1):
            checkpoints.save_if_best(step, state(step, value), {"figure": value})
            best.append(checkpoints.best_step)
    assert best == [1, 1, 3, 3, 5]
    with Checkpoints(tmp_path / "low", "figure", "min", best_margin=0.09) as checkpoints:
        for step, value in enumerate([0.5, 0.45, 0.35], 1):
            checkpoints.save_if_best(step, state(step, value), {"figure": value})
        assert checkpoints.best_step == 3


def test_only_the_first_process_writes_the_digests(tmp_path, monkeypatch):
    with Checkpoints(tmp_path, "figure") as checkpoints:
        monkeypatch.setattr(checkpoints._managers["best"], "save", lambda *_, **__: True)
        monkeypatch.setattr(jax, "process_index", lambda: 1)
        checkpoints.save_if_best(1, state(1), {"figure": 0.1})
        assert checkpoints.best_step == 1  # it knows, for the patience of the training
    assert not list(tmp_path.rglob(DIGESTS))


def test_without_a_metric_nothing_is_the_best(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save_if_best(1, state(1), {"figure": 0.1})
        assert checkpoints.best_step is None
        with pytest.raises(InputError, match="best: found no checkpoint, expected a trained model"):
            checkpoints.restore(state(0), "best")
    assert files(tmp_path / "best") == []


def test_a_metric_that_is_not_measured(tmp_path):
    with Checkpoints(tmp_path, "recall") as checkpoints:
        message = "^best_metric: found 'recall', expected one of loss, perplexity$"
        with pytest.raises(InputError, match=message):
            checkpoints.save_if_best(1, state(1), {"loss": 0.1, "perplexity": 2.0})
    assert files(tmp_path / "best") == []


def test_a_state_of_another_shape_is_refused_by_its_leaf(tmp_path):
    with Checkpoints(tmp_path, "figure") as checkpoints:
        checkpoints.save_if_best(4, state(4), {"figure": 1.0})
        other = state(4).replace(params={**state(4).params, "kernel": jnp.zeros((2, 4))})
        message = r"best: found params/kernel of shape \(2, 3\) at step 4, expected \(2, 4\)$"
        with pytest.raises(InputError, match=message):
            checkpoints.restore(other, "best")
        more = state(4).replace(params={**state(4).params, "bias": jnp.zeros(3)})
        message = r"found params/bias of shape none at step 4, expected \(3,\)$"
        with pytest.raises(InputError, match=message):
            checkpoints.restore(more, "best")
