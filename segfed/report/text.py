"""Numbers and names as readers see them; what is missing is an en dash."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def number(value: float | None, digits: int, *, signed: bool = False) -> str:
    """A number with a real minus sign; an en dash where there is none."""
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞"
    rounded = f"{value:{'+' if signed else ''}.{digits}f}"
    # A difference of -0.0001 is no loss at three digits.
    unsigned = rounded.lstrip("+-")
    return unsigned if float(unsigned) == 0 else rounded.replace("-", MINUS)


def phrase(found: Mapping[str, Any], *, signed: bool = False, digits: int = 3) -> str:
    """``0.812 (0.790 to 0.834)``; only what is there."""
    if found["mean"] is None:
        return "not available"
    mean = number(found["mean"], digits, signed=signed)
    if found["ci_low"] is None:
        return f"{mean} (no interval)"
    low, high = (number(found[end], digits, signed=signed) for end in ("ci_low", "ci_high"))
    return f"{mean} ({low} to {high})"


def words(name: str) -> str:
    """An identifier as text."""
    return name.replace("_", " ")


def prose(sentence: str) -> str:
    """A sentence with names as text and real minus signs."""
    return re.sub(r"(?<![\w.])-(?=\d)", MINUS, words(sentence))


def joined(parts: Sequence[str]) -> str:
    """``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def size(n_bytes: float | None) -> str:
    """Bytes in the unit that leaves one to three digits before the point."""
    if n_bytes is None:
        return MISSING
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000 or unit == "GB":
            break
        n_bytes /= 1000
    return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them: ``48 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds is None:
        return MISSING
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
