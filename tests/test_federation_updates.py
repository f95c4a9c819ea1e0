"""Which replies count."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, MetricRecord, RecordDict

from federation.messages import request_message, write_arrays
from federation.updates import SiteUpdate, believed_counts, outliers, read_update, weighted_mean
from segfed.errors import FederationError
from segfed.privacy import compress
from segfed.rules import FederationRules
from tests.federation_samples import arrays, manifest

REQUEST = request_message(
    "train", write_arrays(arrays()), manifest_sha256="f" * 64, round_number=1, node_id=5
)


def reply(weights=None, **metrics):
    """A reply with four cases and the given arrays; one with arrays says how many steps it took."""
    stated = {"num-examples": 4} if weights is None else {"num-examples": 4, "steps": 5.0}
    content = RecordDict({"metrics": MetricRecord(stated | metrics)})
    if weights is not None:
        record = weights if isinstance(weights, ArrayRecord) else write_arrays(weights)
        content["arrays"] = record
    return Message(content, reply_to=REQUEST)


STUDY = manifest(plan={"structures": {"kidney": [1], "tumor": [2]}}, steps_per_round=5)


def read(message, model=arrays(), study=STUDY):  # noqa: B008 - never changed
    return read_update(message, site="north", manifest=study, model=model)


def reason(message, model=arrays(), study=STUDY):  # noqa: B008 - never changed
    with pytest.raises(FederationError) as refused:
        read(message, model, study)
    return str(refused.value)


def with_rules(**rules):
    return manifest(steps_per_round=5, federation=rules)


def test_a_sound_reply_is_read_whole():
    found, weights = read(reply(arrays(2.0), loss=0.5))

    assert (found.site, found.n_cases, found.metrics) == ("north", 4, {"loss": 0.5, "steps": 5.0})
    np.testing.assert_array_equal(weights["a.weight"], arrays(2.0)["a.weight"])


def test_the_norm_is_that_of_the_change_over_all_arrays():
    # Seven weights that moved by 3 each: sqrt(7 x 9).
    found, _ = read(reply(arrays(5.0)), model=arrays(2.0))

    assert found.norm == pytest.approx(63**0.5)


def test_a_norm_above_the_study_s_limit_does_not_count():
    study = with_rules(max_update_norm=7.9)

    read(reply(arrays(2.9)), study=study)  # sqrt(7 x 2.9²) = 7.67
    assert "norm is 7.94, expected at most 7.9" in reason(reply(arrays(3.0)), study=study)


def test_a_huge_update_has_a_norm_and_no_overflow():
    # The square of 1e38 is beyond float32.
    found, _ = read(reply(arrays(1e38)))

    assert found.norm == pytest.approx(7**0.5 * 1e38)


@pytest.mark.parametrize("steps", [0, 6, 2.5, -1], ids=str)
def test_a_step_count_that_was_not_asked_for_does_not_count(steps):
    assert "step count" in reason(reply(arrays(), steps=steps))


@pytest.mark.parametrize("weighting", ["cases", "steps"])
def test_a_training_must_say_how_many_steps_it_took(weighting):
    message = reply(arrays())
    del message.content["metrics"]["steps"]

    assert "step count" in reason(message, study=with_rules(weighting=weighting))


def test_an_update_weighs_by_cases_or_by_steps():
    study = with_rules(weighting="steps")

    found, _ = read(reply(arrays(), steps=3.0), study=study)
    assert (found.count(study.federation), found.count(STUDY.federation)) == (3, 4)


def updates(*norms, steps=(5,) * 9):
    pairs = zip(norms, steps, strict=False)
    return [
        SiteUpdate(f"site{index}", 1, {"steps": float(taken)}, norm)
        for index, (norm, taken) in enumerate(pairs)
    ]


def test_an_update_far_beyond_the_median_norm_is_an_outlier():
    found = outliers(updates(1.0, 2.0, 20.1), max_ratio=10)

    assert found == {
        "site2": "the update's norm is 10.1 times the round's median, expected at most 10 times"
    }
    assert outliers(updates(1.0, 2.0, 20.0), max_ratio=10) == {}


def test_two_updates_have_no_outlier():
    assert outliers(updates(1.0, 1e9), max_ratio=10) == {}
    assert outliers([], max_ratio=10) == {}


def test_a_change_is_no_outlier_among_sites_that_changed_nothing():
    assert outliers(updates(0.0, 0.0, 1.0), max_ratio=10) == {}


def test_a_fast_site_among_slow_ones_may_move_as_much_farther():
    # Five times the median's steps allow 5 x 10 times the median's norm.
    assert outliers(updates(1.0, 1.0, 50.0, steps=(1, 1, 5)), max_ratio=10) == {}
    assert set(outliers(updates(1.0, 1.0, 50.1, steps=(1, 1, 5)), max_ratio=10)) == {"site2"}


def counted(*counts, **rules):
    found = [
        SiteUpdate(f"site{index}", count, {"steps": float(index)})
        for index, count in enumerate(counts, start=1)
    ]
    return list(believed_counts(found, FederationRules(**rules)).values())


def test_a_claimed_case_count_weighs_at_most_ten_times_the_median():
    assert counted(90, 100, 110, 100_000) == [90, 100, 110, 1050]
    assert counted(1, 100, 1000) == [1, 100, 1000]


def test_two_sites_and_steps_are_weighted_as_stated():
    assert counted(1, 100_000) == [1, 100_000]
    assert counted(1, 1, 100_000, weighting="steps") == [1, 2, 3]


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


@pytest.mark.parametrize("count", [0, -1, 2.5, 4.0, 100_001, 10**9], ids=str)
def test_a_case_count_that_buys_weight_does_not_count(count):
    assert "case count" in reason(reply(arrays(), **{"num-examples": count}))


def test_a_study_may_believe_fewer_cases():
    message = reply(arrays(), **{"num-examples": 51})

    assert "from 1 to 50" in reason(message, study=with_rules(max_cases=50))


def test_a_validation_reply_may_cover_no_case():
    found, _ = read(reply(**{"num-examples": 0}), model=None)

    assert found.n_cases == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0, 2.0]], ids=str)
def test_a_metric_that_is_no_finite_number_does_not_count(value):
    assert "metric" in reason(reply(arrays(), loss=value))


@pytest.mark.parametrize("value", [-0.01, 1.01, 2], ids=str)
def test_a_dice_outside_of_0_to_1_does_not_count(value):
    message = reply(**{"dice_tumor": value})

    assert reason(message, model=None) == "dice_tumor is not from 0 to 1"


@pytest.mark.parametrize("name", ["dice_jane_doe", "jane_doe"])
def test_a_metric_that_the_study_does_not_have_does_not_count_and_is_not_repeated(name):
    assert reason(reply(**{name: 0.5}), model=None) == "1 metrics are not the study's"


def test_every_possible_dice_of_the_study_counts():
    message = reply(dice_kidney=0, dice_tumor=1.0, seconds=2.5)

    found, _ = read(message, model=None)

    assert found.metrics == {"dice_kidney": 0, "dice_tumor": 1, "seconds": 2.5}


def test_a_reply_of_another_kind_does_not_count():
    assert "lacks a record" in reason(reply())
    assert "one too many" in reason(reply(arrays()), model=None)
    assert "lacks a record" in reason(Message(RecordDict(), reply_to=REQUEST))


def npy(header):
    """A file of NumPy's with a header and no data."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize(
    "content",
    [
        b"cut off",
        b"",
        b"PK\x03\x04",
        npy(b"(((\n"),
        npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d,)}\n" % 2**60),
    ],
    ids=["no header", "nothing", "an archive", "open brackets", "larger than any memory"],
)
def test_arrays_that_numpy_cannot_read_do_not_count(content):
    record = write_arrays(arrays())
    record["safetensors"] = Array("uint8", (2,), "numpy.ndarray", content)

    assert "damaged" in reason(reply(record))


def test_a_reply_larger_than_the_model_is_not_even_read():
    record = write_arrays(arrays())
    record["safetensors"] = Array("uint8", (2,), "numpy.ndarray", bytes(2_000_000))

    assert "larger than" in reason(reply(record))


def test_a_reply_without_arrays_may_not_be_large_either():
    assert "larger than" in reason(reply(loss=[0.5] * 200_000), model=None)


def test_an_error_is_named_by_its_code_and_never_by_its_text():
    ours = Message(Error(1006), reply_to=REQUEST)
    flower_s = Message(Error(2, reason="/patients/jane"), reply_to=REQUEST)

    assert "fewer training cases" in reason(ours)
    assert reason(flower_s) == "the site failed (code 2)"
    assert reason(Message(Error(5), reply_to=REQUEST)) == "the site's node went away"


def test_a_weighted_mean_leaves_out_what_is_unknown():
    # (1 x 2 + 4 x 1) / 3
    assert weighted_mean([(1.0, 2), (None, 50), (4.0, 1)]) == 2
    assert weighted_mean([(None, 3)]) is None
    assert weighted_mean([]) is None


def test_a_training_whose_update_follows_under_masks_is_checked_without_weights():
    found, weights = read_update(
        reply(steps=3.0), site="north", manifest=STUDY, model=None, is_masked=True
    )
    assert (found.n_cases, found.norm, weights) == (4, 0.0, {})
    for wrong in (reply(**{"num-examples": 0}), reply(steps=9.0), reply(arrays())):
        with pytest.raises(FederationError):
            read_update(wrong, site="north", manifest=STUDY, model=None, is_masked=True)


INT8 = with_rules(compression="int8")


def compressed_reply(change, **parts):
    """A compressed change of every weight by the same number; parts of it may be others."""
    return reply(compress(arrays(change), method="int8") | parts)


def test_a_compressed_change_moves_the_global_model():
    # 3 rows of a.weight and the one number of b.scale: 127 x (1.27 / 127) each.
    found, weights = read(compressed_reply(1.27), model=arrays(2.0), study=INT8)

    assert weights["a.weight"] == pytest.approx(np.full((3, 2), 3.27))
    assert weights["b.scale"].dtype == np.float32
    assert found.norm == pytest.approx(7**0.5 * 1.27)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (reply(arrays()), "2 of 2 arrays are missing and 2 are unknown"),
        (compressed_reply(1.0, codes=np.zeros(8, np.int8)), "shape (8,) instead of (7,)"),
        (compressed_reply(1.0, codes=np.zeros(7, np.uint8)), "type uint8 instead of int8"),
        (compressed_reply(1.0, scales=np.zeros(4, np.float64)), "type float64 instead of float32"),
        (compressed_reply(1.0, scales=np.full(4, np.nan, np.float32)), "scales holds NaN"),
        (compressed_reply(1.0, scales=np.full(4, 3e38, np.float32)), "holds NaN or infinity"),
        (compressed_reply(1.0, second=np.zeros(7, np.int8)), "1 are unknown"),
    ],
)
def test_what_is_no_compressed_change_does_not_count(message, expected):
    assert expected in reason(message, study=INT8)


def test_a_compressed_change_does_not_count_where_whole_weights_are_asked_for():
    assert "arrays are missing" in reason(compressed_reply(1.0))


def test_whole_weights_are_too_large_where_compressed_ones_are_asked_for():
    # 4 MB where 1 MB and what a reply may hold beside it are allowed.
    model = {"w": np.zeros((1000, 1000), np.float32)}

    assert "larger than" in reason(reply(model), model, INT8)
