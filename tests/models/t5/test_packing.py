import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from catid2_jax.models.t5.packing import make_packing, of_each_source, pack, unpack

# Few shapes, for each is compiled anew.
MASKS = st.sampled_from([(1, 1), (2, 5), (4, 3)]).flatmap(lambda shape: arrays(bool, shape))


@settings(max_examples=30)
@given(MASKS, st.integers(0, 3))
def test_tokens_lie_side_by_side_in_their_order(mask, spare):
    packed_tokens = max(1, min(int(mask.sum()) + spare, mask.size))
    x = np.random.default_rng(0).normal(size=(*mask.shape, 2)).astype(np.float32)
    packing = make_packing(jnp.asarray(mask), packed_tokens)
    packed = pack(jnp.asarray(x), packing)
    expected = np.zeros((1, packed_tokens, 2), np.float32)
    expected[0, : mask.sum()] = x[mask]
    np.testing.assert_array_equal(packed, expected)
    np.testing.assert_array_equal(unpack(packed, packing), np.where(mask[..., None], x, 0))
    sources = np.arange(2 * len(mask), dtype=np.float32).reshape(-1, 2)
    found = np.asarray(of_each_source(jnp.asarray(sources), packing))[0, : mask.sum()]
    np.testing.assert_array_equal(found, sources[np.nonzero(mask)[0]])


@settings(max_examples=20)
@given(MASKS)
def test_derivatives_are_the_transposes(mask):
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(*mask.shape, 3)), jnp.float32)
    # One slot stays empty, unless there is no padding.
    packed_tokens = max(1, mask.size - 1, int(mask.sum()))
    packing = make_packing(jnp.asarray(mask), packed_tokens)
    y = jnp.asarray(rng.normal(size=(1, packed_tokens, 3)), jnp.float32)
    # <pack(x), y> = <x, packed by its transpose(y)>, and the transposes have no part on padding.
    back = jax.vjp(lambda x: pack(x, packing), x)[1](y)[0]
    expected = np.zeros(x.shape, np.float32)
    expected[mask] = np.asarray(y)[0, : mask.sum()]
    np.testing.assert_array_equal(back, expected)
    forth = jax.vjp(lambda y: unpack(y, packing), y)[1](x)[0]
    expected = np.zeros(y.shape, np.float32)
    expected[0, : mask.sum()] = np.asarray(x)[mask]
    np.testing.assert_array_equal(forth, expected)


def test_without_a_packing_nothing_moves():
    x = jnp.ones((2, 3))
    assert pack(x, None) is x
    assert unpack(x, None) is x
