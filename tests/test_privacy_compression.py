"""Updates in fewer bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import save

from segfed.errors import WeightsError
from segfed.privacy import compress, compressed_form, decompress

METHODS = ("fp16", "int8", "int4")


def update(seed=0):
    """A convolution's weights and biases, a matrix and a scalar: 97 values."""
    rng = np.random.default_rng(seed)
    shapes = {"conv.weight": (4, 2, 3, 3, 1), "conv.bias": (4,), "dense": (5, 4), "scale": ()}
    return {
        name: np.asarray(rng.normal(size=shape), dtype=np.float32) for name, shape in shapes.items()
    }


def sent(values, method):
    return decompress(compress(values, method=method), like=values, method=method)


def test_eight_bits_hold_each_channel_s_largest_change_as_127():
    # Channel 0 has the scale 2.54 / 127 = 0.02, and 0.06 is 3 of them; channel 1 has 127 / 127.
    found = compress({"w": np.array([[2.54, 0.06], [-127, 1]], np.float32)}, method="int8")

    assert found["codes"].tolist() == [127, 3, -127, 1]
    assert found["scales"] == pytest.approx([0.02, 1.0])


def test_four_bits_hold_two_changes_in_a_byte():
    # Scale 7 / 7 = 1: 7, -7 and 2 are 15, 1 and 10; the first of two in the lower half of a byte.
    found = compress({"w": np.array([7, -7, 2], np.float32)}, method="int4")

    assert found["codes"].tolist() == [0x1F, 0x0A]
    assert found["scales"].tolist() == [1.0]


def test_biases_are_one_channel():
    found = compress({"bias": np.array([1.27, 0.5, 0.0], np.float32)}, method="int8")

    assert found["codes"].tolist() == [127, 50, 0]
    assert len(found["scales"]) == 1


@pytest.mark.parametrize("method", METHODS)
def test_what_arrives_has_the_update_s_names_and_shapes(method):
    values = update()

    found = sent(values, method)

    assert {name: array.shape for name, array in found.items()} == {
        name: array.shape for name, array in values.items()
    }
    assert all(array.dtype == np.float32 for array in found.values())


@given(arrays(np.float32, (3, 5), elements=st.floats(-1e6, 1e6, width=32)))
def test_no_value_is_off_by_more_than_half_a_step(values):
    for method, largest in (("int8", 127), ("int4", 7)):
        off = np.abs(sent({"w": values}, method)["w"].astype(np.float64) - values)
        steps = np.abs(values).max(axis=1, keepdims=True) / largest
        # The float32 scale may be off by a few parts in 10^7 of the largest value.
        assert (off <= steps / 2 + 1e-6 * largest * steps + 1e-40).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_form_is_that_of_any_update_of_the_same_names_and_shapes(method):
    form = compressed_form(update(1), method=method)

    assert {name: (array.shape, array.dtype) for name, array in form.items()} == {
        name: (array.shape, array.dtype)
        for name, array in compress(update(), method=method).items()
    }


@pytest.mark.parametrize(("method", "share"), [("fp16", 1 / 2), ("int8", 1 / 4), ("int4", 1 / 8)])
def test_bytes_are_saved(method, share):
    # 64 channels of 864 values: a scale each is 1/216 of a float32 model in eight bits.
    values = {"w": np.ones((64, 32, 3, 3, 3), np.float32)}

    found = len(save(compress(values, method=method))) / len(save(values))

    assert share <= found < share + 0.01


@pytest.mark.parametrize("method", METHODS)
def test_an_update_that_changes_nothing_stays_nothing(method):
    nothing = {name: np.zeros_like(array) for name, array in update().items()}

    assert all((array == 0).all() for array in sent(nothing, method).values())


@pytest.mark.parametrize(
    ("value", "method"), [*((np.nan, m) for m in METHODS), (np.inf, "int8"), (7e4, "fp16")]
)
def test_a_value_that_cannot_be_held_is_refused(value, method):
    with pytest.raises(WeightsError, match=f"expected at most .* {method} can hold"):
        compress({"w": np.array([1.0, value], np.float32)}, method=method)


def test_a_hostile_scale_gives_values_that_are_not_finite_and_no_error():
    values = {"w": np.ones((2, 2), np.float32)}
    found = compress(values, method="int8") | {"scales": np.array([3e38, np.nan], np.float32)}

    assert not np.isfinite(decompress(found, like=values, method="int8")["w"]).any()
