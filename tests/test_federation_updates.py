"""Which replies count, and their average."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from federation.messages import request_message, write_arrays
from federation.updates import MAX_CASES, SiteUpdate, average, read_update, weighted_mean
from segfed.errors import FederationError
from tests.federation_samples import arrays

REQUEST = request_message(
    "train", write_arrays(arrays()), manifest_sha256="f" * 64, round_number=1, node_id=5
)


def reply(weights=None, **metrics):
    """A reply with four cases and the given arrays."""
    content = RecordDict({"metrics": MetricRecord({"num-examples": 4} | metrics)})
    if weights is not None:
        record = weights if isinstance(weights, ArrayRecord) else write_arrays(weights)
        content["arrays"] = record
    return Message(content, reply_to=REQUEST)


def reason(message, expected=arrays()):  # noqa: B008 - never changed
    with pytest.raises(FederationError) as refused:
        read_update(message, site="north", expected=expected, structures=("tumor",))
    return str(refused.value)


def update(site, n_cases, value, dtype=np.float32):
    return SiteUpdate(site, n_cases, {}, {"a": np.full((2,), value, dtype=dtype)})


def test_a_sound_reply_is_read_whole():
    found = read_update(reply(arrays(2.0), loss=0.5), site="north", expected=arrays())

    assert (found.site, found.n_cases, found.metrics) == ("north", 4, {"loss": 0.5})
    np.testing.assert_array_equal(found.weights["a.weight"], arrays(2.0)["a.weight"])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"a.weight": np.full((3, 2), np.nan, np.float32)}, "a.weight holds NaN"),
        ({"b.scale": np.array(np.inf, np.float32)}, "b.scale holds NaN or infinity"),
        # Shapes that NumPy would broadcast, and types that it would convert.
        ({"a.weight": np.zeros((1, 2), np.float32)}, r"shape (1, 2) instead of (3, 2)"),
        ({"b.scale": np.zeros(1, np.float32)}, "shape (1,) instead of ()"),
        ({"a.weight": np.zeros((3, 2), np.float16)}, "type float16 instead of float32"),
        ({"a.weight": np.zeros((3, 2), np.float64)}, "type float64 instead of float32"),
        ({"c": np.zeros(1, np.float32)}, "0 of 2 arrays are missing and 1 are unknown"),
    ],
    ids=str,
)
def test_arrays_of_another_network_do_not_count(change, expected):
    assert expected in reason(reply(arrays() | change))


def test_a_missing_array_does_not_count():
    weights = {"a.weight": arrays()["a.weight"]}

    assert "1 of 2 arrays are missing" in reason(reply(weights))


@pytest.mark.parametrize("count", [0, -1, 2.5, 4.0, MAX_CASES + 1, 10**9], ids=str)
def test_a_case_count_that_buys_weight_does_not_count(count):
    assert "case count" in reason(reply(arrays(), **{"num-examples": count}))


def test_a_validation_reply_may_cover_no_case():
    found = read_update(reply(**{"num-examples": 0}), site="north", expected=None)

    assert found.n_cases == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0, 2.0]], ids=str)
def test_a_metric_that_is_no_finite_number_does_not_count(value):
    assert "metric" in reason(reply(arrays(), loss=value))


@pytest.mark.parametrize("value", [-0.01, 1.01, 2], ids=str)
def test_a_dice_outside_of_0_to_1_does_not_count(value):
    message = reply(**{"dice_tumor": value})

    assert reason(message, expected=None) == "dice_tumor is not from 0 to 1"


@pytest.mark.parametrize("name", ["dice_jane_doe", "jane_doe"])
def test_a_metric_that_the_study_does_not_have_does_not_count_and_is_not_repeated(name):
    assert reason(reply(**{name: 0.5}), expected=None) == "1 metrics are not the study's"


def test_every_possible_dice_of_the_study_counts():
    message = reply(dice_kidney=0, dice_tumor=1.0, seconds=2.5)

    found = read_update(message, site="north", expected=None, structures=("kidney", "tumor"))

    assert found.metrics == {"dice_kidney": 0, "dice_tumor": 1, "seconds": 2.5}


def test_a_reply_of_another_kind_does_not_count():
    assert "lacks a record" in reason(reply(), expected=arrays())
    assert "one too many" in reason(reply(arrays()), expected=None)
    assert "lacks a record" in reason(Message(RecordDict(), reply_to=REQUEST))


def test_damaged_arrays_do_not_count():
    record = write_arrays(arrays())
    record["a.weight"] = Array("float32", (3, 2), "numpy.ndarray", b"cut off")

    assert "damaged" in reason(reply(record))


def test_a_reply_larger_than_the_model_is_not_even_read():
    record = write_arrays(arrays())
    record["a.weight"] = Array("float32", (3, 2), "numpy.ndarray", bytes(2_000_000))

    assert "larger than" in reason(reply(record))


def test_a_reply_without_arrays_may_not_be_large_either():
    assert "larger than" in reason(reply(loss=[0.5] * 200_000), expected=None)


def test_an_error_is_named_by_its_code_and_never_by_its_text():
    ours = Message(Error(1006), reply_to=REQUEST)
    flower_s = Message(Error(2, reason="/patients/jane"), reply_to=REQUEST)

    assert "fewer training cases" in reason(ours)
    assert reason(flower_s) == "the site failed (code 2)"


def test_the_average_weighs_by_cases():
    # (1 x 1 + 3 x 2 + 4 x 3) / 8 = 19 / 8
    found = average([update("a", 1, 1.0), update("b", 3, 2.0), update("c", 4, 3.0)])

    np.testing.assert_array_equal(found["a"], np.full(2, 19 / 8, np.float32))


def test_the_average_is_summed_in_double_precision_and_keeps_the_type():
    # In float32, 2^24 + 1 is 2^24: a float32 sum would lose both ones and give 2^24 / 3.
    updates = [update("a", 1, 2.0**24), update("b", 1, 1.0), update("c", 1, 1.0)]

    found = average(updates)["a"]

    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.full(2, (2**24 + 2) / 3, np.float32))


@given(order=st.permutations(range(4)))
def test_the_order_of_replies_changes_no_bit(order):
    rng = np.random.default_rng(0)
    updates = [
        SiteUpdate(f"site{index}", index + 1, {}, {"a": rng.normal(size=50).astype(np.float32)})
        for index in range(4)
    ]

    shuffled = average([updates[index] for index in order])

    assert shuffled["a"].tobytes() == average(updates)["a"].tobytes()


def test_an_array_without_dimensions_stays_one():
    one = SiteUpdate("a", 1, {}, arrays(1.0))

    assert average([one, one])["b.scale"].shape == ()


def test_a_weighted_mean_leaves_out_what_is_unknown():
    # (1 x 2 + 4 x 1) / 3
    assert weighted_mean([(1.0, 2), (None, 50), (4.0, 1)]) == 2
    assert weighted_mean([(None, 3)]) is None
    assert weighted_mean([]) is None
