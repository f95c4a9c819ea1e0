"""What a request for a proposal may ask for; the rest is dropped before anything reads it.

MONAI Label merges the JSON that a client sends over its own fields, so that it could name files.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

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
