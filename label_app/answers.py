"""How an error becomes an answer that 3D Slicer shows in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi import HTTPException

from segfed.errors import SegfedError


@contextmanager
def explaining(site_folder: Path, upload: Path | None = None) -> Iterator[None]:
    """Turn an error of ours into HTTP 422 with its text.

    Args:
        site_folder: The site; files in it are named by their place there, because a reader learns
            nothing from where it lies on the server.
        upload: The uploaded file, whose temporary name means nothing to the reader; the message
            calls it the submitted label.

    Raises:
        HTTPException: Instead of any `SegfedError`.
    """
    try:
        yield
    except SegfedError as error:
        text = str(error)
        if upload is not None:
            text = text.replace(str(upload), "the submitted label")
        raise HTTPException(422, text.replace(f"{site_folder}/", "")) from error
