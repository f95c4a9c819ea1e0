"""What a request for a proposal may ask for."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from fastapi import HTTPException

from label_app.wishes import MOST_CLICKS, allowed_wishes, wished_clicks

SLICERS = {
    "model": "bean",
    "image": "case0",
    "result_extension": ".nrrd",
    "result_dtype": "uint8",
    "foreground": [[1, 2, 3], [4, 5, 6]],
    "background": [],
    "label": "skin",
    "skin": [[1, 2, 3]],
    "label_info": [{"name": "skin", "id": 1}],
    "roi": [1, 2.5, 3, 4, 5, 6],
}


def test_what_slicer_sends_stays():
    assert allowed_wishes(SLICERS, labels=("skin", "core")) == SLICERS


def test_the_rest_is_dropped_and_the_request_stays_as_it_was():
    request = SLICERS | {"client_id": "user-xyz", "device": "cuda", "result_write_to_file": True}
    before = dict(request)

    assert allowed_wishes(request, labels=("skin",)) == SLICERS
    assert request == before


@pytest.mark.parametrize("key", ["image", "model", "label", "result_extension", "roi"])
@pytest.mark.parametrize("path", ["/etc/passwd", "../case0", "a/b", "..", "C:\\x", "case0\n"])
def test_no_text_can_be_a_path(key, path):
    assert key not in allowed_wishes({key: path}, labels=())
    assert key not in allowed_wishes({key: [{"name": path}]}, labels=())


def test_a_file_that_was_uploaded_with_the_request_is_kept():
    folder = tempfile.gettempdir()

    assert allowed_wishes({"label": f"{folder}/tmpx.nii.gz"}, labels=())
    assert not allowed_wishes({"label": f"{folder}/.."}, labels=())
    assert not allowed_wishes({"label": str(Path(folder) / "site" / "x.nii.gz")}, labels=())


def test_what_is_nested_too_deeply_is_dropped():
    deep: list = []
    for _ in range(1000):
        deep = [deep]

    assert allowed_wishes({"roi": deep}, labels=()) == {}


def clicks(**points):
    return wished_clicks(allowed_wishes(points, labels=()), shape=(7, 6, 5))


def test_clicks_are_voxels_of_the_image():
    found = clicks(foreground=[[0, 0, 0], [6, 5, 4]], background=[[1.0, 2.0, 3.0]])

    assert found.foreground == ((0, 0, 0), (6, 5, 4))
    assert found.background == ((1, 2, 3),)
    assert clicks(background=[[1, 2, 3]]).foreground == ()


@pytest.mark.parametrize(
    "point",
    [
        [-1, 0, 0],
        [7, 0, 0],
        [0, 0, 5],
        [0, 0],
        [0, 0, 0, 0],
        [0.5, 0, 0],
        [float("nan"), 0, 0],
        [float("inf"), 0, 0],
        [10**400, 0, 0],
        [True, 0, 0],
        ["1", 0, 0],
        [None, 0, 0],
        [[1], 0, 0],
        {"x": 1},
        3,
    ],
)
def test_what_is_no_voxel_is_no_click(point):
    for name in ("foreground", "background"):
        with pytest.raises(HTTPException, match=rf"422.*{name} point.*7 x 6 x 5"):
            clicks(**{"foreground": [[1, 1, 1]], name: [[2, 2, 2], point]})


@pytest.mark.parametrize("points", ["x", {"a": 1}, 5, True])
def test_a_list_of_points_is_a_list(points):
    with pytest.raises(HTTPException, match="422"):
        clicks(foreground=points)


@pytest.mark.parametrize("count", [0, MOST_CLICKS + 1])
def test_the_number_of_clicks_is_bounded(count):
    with pytest.raises(HTTPException, match=rf"422.*Found {count} clicks"):
        clicks(foreground=[[1, 1, 1]] * count)
    assert len(clicks(foreground=[[1, 1, 1]] * MOST_CLICKS).foreground) == MOST_CLICKS
