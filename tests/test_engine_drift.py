"""Images that are unlike those that a model was trained on."""

from __future__ import annotations

import numpy as np
import pytest

from segfed.engine import make_plan, prepared_image
from segfed.engine.drift import InputRange, drift, image_features, input_range
from segfed.sites import load_task
from segfed.volumes import Grid, Volume
from tests.engine_samples import sample_plan

CT = make_plan(
    load_task("kidney_tumor"),
    {"spacing_mm": (4.0, 4.0, 4.0), "patch_voxels": (16, 16, 16), "features": (4, 8)},
)


def abdomen(seed, *, shift_hu=0.0, factor=1.0, spacing_mm=(4.0, 4.0, 5.0), size=(20, 18, 16)):
    """Soft tissue around a brighter organ, with air in front of the patient."""
    rng = np.random.default_rng(seed)
    hu = rng.normal(40 + rng.normal(scale=4), 20, size=size)
    hu[5:12, 6:12, 4:10] += 120
    hu[:, 15:] = -1000
    data = (factor * (hu + shift_hu))[None].astype(np.float32)
    return Volume(data, Grid(size, np.diag([*spacing_mm, 1.0])))


def features_of(volume, plan=CT):
    image = prepared_image(plan, volume).as_tensor().numpy()
    return image_features(image, grid=volume.grid, plan=plan)


@pytest.fixture(scope="module")
def usual():
    return input_range([features_of(abdomen(seed)) for seed in range(12)])


def test_ordinary_images_raise_no_alarm(usual):
    alarms = [drift(usual, features_of(abdomen(seed))) for seed in range(100, 120)]

    assert not any(alarms)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shift_hu": 1024.0}, "share above the window"),
        ({"factor": 0.001}, "ct: percentile 95"),
        ({"shift_hu": 60.0}, "ct: percentile 50"),
        ({"spacing_mm": (4.0, 4.0, 15.0)}, "coarsest spacing (mm) is 15, usually 5 to 5"),
        ({"spacing_mm": (0.4, 0.4, 0.5)}, "finest spacing (mm) is 0.4"),
        ({"size": (20, 18, 60)}, "extent foot to head (mm)"),
    ],
    ids=["units", "scale", "phase", "thick slices", "centimetres", "long scan"],
)
def test_another_unit_phase_or_grid_is_named(usual, change, words):
    assert words in "; ".join(drift(usual, features_of(abdomen(7, **change))))


def test_mr_with_the_contrast_turned_round_is_named():
    plan = sample_plan()

    def brain(seed, sign=1):
        rng = np.random.default_rng(seed)
        data = sign * rng.gamma(2.0, size=(1, 16, 24, 16)).astype(np.float32)
        return features_of(Volume(data, Grid((16, 24, 16), np.eye(4))), plan)

    usual = input_range([brain(seed) for seed in range(10)])

    assert drift(usual, brain(50)) == ()
    assert "t1: percentile 95 in deviations" in "; ".join(drift(usual, brain(50, sign=-1)))


def test_a_range_holds_three_rounded_percentiles_and_no_case():
    found = input_range([{"x": float(value)} for value in range(101)])

    assert found == InputRange(n_cases=101, features={"x": (5.0, 50.0, 95.0)})


def test_three_times_beyond_the_usual_is_far():
    usual = InputRange(n_cases=9, features={"share": (0.1, 0.2, 0.4), "length (mm)": (10, 10, 10)})

    # 0.2 + 3 (0.4 - 0.2) = 0.8 and 0.2 - 3 (0.2 - 0.1) = -0.1; lengths 10 * 1.1 ** 3 = 13.3.
    assert drift(usual, {"share": 0.79, "length (mm)": 13.2}) == ()
    assert len(drift(usual, {"share": 0.81, "length (mm)": 13.4})) == 2
    assert drift(usual, {"share": -0.11}) == ("share is -0.11, usually 0.1 to 0.4",)
    assert drift(usual, {"unknown": 1e9}) == ()


def test_an_empty_image_has_features_too():
    flat = Volume(
        np.full((1, 8, 8, 8), -1000.0, np.float32), Grid((8, 8, 8), np.diag([4.0, 4.0, 4.0, 1.0]))
    )

    found = features_of(flat)

    assert found["ct: share of background"] == 1
