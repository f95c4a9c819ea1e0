"""Updates in fewer bytes, as they travel from a site to the server. Light: no torch.

What travels is the difference to the global model, all arrays in the order of their names, one
after the other: as halves (``fp16``), or as whole numbers of 8 or 4 bits with one scale for each
output channel. What rounding takes from an update is kept at the site and added to its next one
(error feedback: Seide et al., Interspeech 2014; Karimireddy et al., ICML 2019), so that nothing is
lost for good.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segfed.errors import WeightsError
from segfed.privacy.fixed_point import Arrays
from segfed.rules import Compression

Method = Literal["fp16", "int8", "int4"]

CODES, SCALES = "codes", "scales"
_LARGEST: dict[Method, int] = {"int8": 127, "int4": 7}
_HALF_BYTE_ZERO = 8
"""Four bits hold -7 to 7 as 1 to 15."""


def compress(update: Arrays, *, method: Method) -> Arrays:
    """An update as it travels: ``codes`` of all its values and, of whole numbers, ``scales``.

    A value x of channel c becomes round(x / s) with s = max|x| / 127 over c, or / 7: no value is
    off by more than s / 2. A channel is what an array's first axis counts, which for a transposed
    convolution are the channels that go in; an array with fewer than two axes is one channel.

    Args:
        update: Float arrays by name.
        method: What values become.

    Returns:
        ``codes`` with a float16 (``fp16``) or int8 for each value, or a uint8 for two of them
        (``int4``, the first in the lower half); ``scales`` with a float32 for each channel.

    Raises:
        WeightsError: If a value is not finite, or too large for a half.
    """
    flat = _flat(update).astype(np.float32)
    largest = float(np.abs(flat).max(initial=0.0))
    most = float(np.finfo(np.float16).max) if method == "fp16" else float(np.finfo(np.float32).max)
    if not largest <= most:  # also where it is not a number
        raise WeightsError(
            f"The update's largest change of a weight is {largest:g}, expected at most {most:g}, "
            f"which {method} can hold. Train with a lower learning rate, or without compression."
        )
    if method == "fp16":
        return {CODES: flat.astype(np.float16)}
    starts, sizes = _channels(update)
    scales = np.maximum.reduceat(np.abs(flat), starts) / np.float32(_LARGEST[method])
    divisors = np.repeat(np.where(scales > 0, scales, np.float32(1)), sizes)
    limit = _LARGEST[method]
    codes = np.clip(np.rint(flat / divisors), -limit, limit).astype(np.int8)
    return {CODES: _packed(codes) if method == "int4" else codes, SCALES: scales}


def decompress(compressed: Arrays, *, like: Arrays, method: Method) -> Arrays:
    """The update that was sent, the same bits at the site and at the server.

    Args:
        compressed: As ``compress`` makes it, and of the names, shapes and types of
            ``compressed_form``.
        like: Gives names and shapes; what the values are does not matter.
        method: What the values became.

    Returns:
        Float32 arrays; not finite where a scale is hostile, but never an error.
    """
    codes = compressed[CODES]
    if method == "fp16":
        flat = codes.astype(np.float32)
    else:
        _, sizes = _channels(like)
        is_packed = method == "int4"
        whole = _unpacked(codes.astype(np.uint8), sum(sizes)) if is_packed else codes
        with np.errstate(over="ignore", invalid="ignore"):
            flat = whole.astype(np.float32) * np.repeat(compressed[SCALES], sizes)
    ends = np.cumsum([like[name].size for name in sorted(like)])
    parts = np.split(flat, ends[:-1])
    return {
        name: part.reshape(like[name].shape) for name, part in zip(sorted(like), parts, strict=True)
    }


def compressed_form(like: Arrays, *, method: Method) -> Arrays:
    """Names, shapes and types of a compressed update, as arrays that take no memory."""
    n_values = sum(array.size for array in like.values())
    if method == "fp16":
        return {CODES: _empty(n_values, np.float16)}
    codes = _empty((n_values + 1) // 2, np.uint8) if method == "int4" else _empty(n_values, np.int8)
    return {CODES: codes, SCALES: _empty(len(_channels(like)[1]), np.float32)}


def method_of(compression: Compression) -> Method | None:
    """The method that a study's setting names; None where whole weights travel."""
    return None if compression == "none" else compression


def _flat(update: Arrays) -> NDArray[np.generic]:
    """All values, in the order of the names."""
    return np.concatenate([update[name].reshape(-1) for name in sorted(update)])


def _channels(arrays: Arrays) -> tuple[NDArray[np.int64], list[int]]:
    """Where each channel starts among all values, and how many values it has."""
    sizes = []
    for name in sorted(arrays):
        array = arrays[name]
        n_channels = array.shape[0] if array.ndim > 1 else 1
        sizes += [array.size // n_channels] * n_channels
    return np.cumsum([0, *sizes[:-1]]), sizes


def _packed(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Two numbers from -7 to 7 in each byte; the last may be alone."""
    shifted = (codes + _HALF_BYTE_ZERO).astype(np.uint8)
    pairs = np.append(shifted, np.uint8(0)) if shifted.size % 2 else shifted
    return np.asarray(pairs[0::2] | (pairs[1::2] << 4), dtype=np.uint8)


def _unpacked(codes: NDArray[np.uint8], n_values: int) -> NDArray[np.int8]:
    """The numbers in some bytes."""
    halves = np.stack([codes & 0x0F, codes >> 4], axis=1).reshape(-1)[:n_values]
    return np.asarray(halves.astype(np.int8) - _HALF_BYTE_ZERO, dtype=np.int8)


def _empty(size: int, dtype: type[np.generic]) -> NDArray[np.generic]:
    return np.broadcast_to(np.zeros((), dtype), (size,))
