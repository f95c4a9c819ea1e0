"""What a request for a proposal may ask for; the rest is dropped before anything reads it.

MONAI Label merges the JSON that a client sends over its own fields, so that it could name files.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import HTTPException

from segfed.engine import Clicks

_ALWAYS = {"model", "image", "result_extension", "result_dtype"}
_EDITING = {
    "background",
    "foreground",
    "label_info",
    "reset_state",
    "roi",
    "selected_label_name",
    "slice",
}
_SAFE_TEXT = re.compile(r"[A-Za-z0-9._ -]{0,100}")
_MAX_DEPTH = 4

MOST_CLICKS = 200
"""Nobody clicks as often on one structure; each costs time."""


def allowed_wishes(request: Mapping[str, Any], *, labels: Collection[str]) -> dict[str, Any]:
    """The fields of a request that 3D Slicer sends, and of these the harmless ones.

    Args:
        request: What MONAI Label made of the address, the JSON and the uploaded files.
        labels: Names of the task's labels; Slicer sends clicks under the name of their segment.

    Returns:
        A copy in which no text can be a path, but for ``label``: a file that was uploaded with
        this request, or the name of a segment.
    """
    known = _ALWAYS | _EDITING | set(labels)
    wishes = {key: value for key, value in request.items() if key in known and _is_safe(value)}
    label = request.get("label")
    if _is_safe(label) or _is_upload(label):
        wishes["label"] = label
    return {key: value for key, value in wishes.items() if value is not None}


def wished_clicks(wishes: Mapping[str, Any], *, shape: Sequence[int]) -> Clicks:
    """Where the reader clicked, on the image's own grid.

    Args:
        wishes: What `allowed_wishes` let pass; 3D Slicer lists points as ``[i, j, k]`` under
            ``foreground`` and ``background``, all of them each time.
        shape: Voxels of the image along I, J and K.

    Raises:
        HTTPException: 422 if there is no click, there are too many, or one is not a voxel of the
            image.
    """
    foreground, background = (
        _points(wishes.get(name, []), name, shape) for name in ("foreground", "background")
    )
    count = len(foreground) + len(background)
    if not 1 <= count <= MOST_CLICKS:
        raise HTTPException(
            422,
            f"Found {count} clicks; expected 1 to {MOST_CLICKS}. Place points on the structure, or "
            "beside it where it was marked wrongly, and try again.",
        )
    return Clicks(foreground, background)


def _points(value: object, name: str, shape: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """The voxels in a list of points."""
    points: list[object] = value if isinstance(value, list) else [value]
    for point in points:
        if not _is_voxel(point, shape):
            raise HTTPException(
                422,
                f"Found the {name} point {str(point)[:60]}; expected three whole numbers within "
                f"the image of {' x '.join(map(str, shape))} voxels. Place the point inside the "
                "image, and try again.",
            )
    return tuple((int(i), int(j), int(k)) for i, j, k in points)  # type: ignore[attr-defined]


def _is_voxel(point: object, shape: Sequence[int]) -> bool:
    """Whether a point is a voxel of the image."""
    return (
        isinstance(point, list)
        and len(point) == len(shape)
        # Of the numbers in JSON, booleans are whole too, and NaN lies within nothing.
        and all(isinstance(x, int | float) and not isinstance(x, bool) for x in point)
        and all(0 <= x < size and x == int(x) for x, size in zip(point, shape, strict=True))
    )


def _is_safe(value: Any, depth: int = 0) -> bool:
    """Whether a value is made of numbers and of texts that cannot be paths."""
    if isinstance(value, str):
        return ".." not in value and _SAFE_TEXT.fullmatch(value) is not None
    if isinstance(value, list) and depth < _MAX_DEPTH:
        return all(_is_safe(item, depth + 1) for item in value)
    if isinstance(value, dict) and depth < _MAX_DEPTH:
        return all(_is_safe(key) and _is_safe(item, depth + 1) for key, item in value.items())
    return value is None or isinstance(value, int | float)


def _is_upload(label: Any) -> bool:
    """Whether this is where MONAI Label puts uploaded files; their names cannot be guessed."""
    if not isinstance(label, str) or ".." in label:
        return False
    return Path(label).parent == Path(tempfile.gettempdir())
