"""What the server checks of a site's reply before it counts, and how updates are averaged."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from flwr.app import Message, MetricRecord

from federation.messages import ARRAYS, METRICS, N_CASES, Weights, content_bytes, read_arrays
from segfed.errors import FederationError
from segfed.protocol import AgentError, AgentErrorCode

MAX_CASES = 100_000
"""More cases than any hospital has; a larger count would only buy weight in the average."""

_DICE = "dice_"
_DECLARED_METRICS = frozenset({"loss", "seconds", "steps"})

# A reply may carry metrics and Flower's headers beside the arrays, but not a second model.
_SPARE_BYTES = 1_000_000


@dataclass(frozen=True)
class SiteUpdate:
    """One site's checked reply."""

    site: str
    n_cases: int
    metrics: dict[str, float]
    weights: Weights
    """Empty after validation."""


def read_update(
    reply: Message, *, site: str, expected: Weights | None, structures: Collection[str] = ()
) -> SiteUpdate:
    """A reply that may count.

    Args:
        reply: What came back.
        site: Who sent it, by the server's own table; what replies say of themselves can be forged.
        expected: Arrays whose names, shapes and types the update must have; None for a reply
            without weights.
        structures: Names of the study's structures; no other Dice may be stated.

    Raises:
        FederationError: Saying in a phrase why the reply must not count. The phrase holds nothing
            that the site could have written.
    """
    if reply.has_error():
        raise FederationError(_meaning(reply.error.code))
    size_limit = sum(array.nbytes for array in (expected or {}).values()) + _SPARE_BYTES
    if content_bytes(reply.content) > size_limit:
        raise FederationError(f"the reply is larger than {size_limit} bytes")
    metrics = reply.content.metric_records.get(METRICS)
    arrays = reply.content.array_records.get(ARRAYS)
    if metrics is None or (arrays is None) != (expected is None):
        raise FederationError("the reply lacks a record, or has one too many")
    n_cases = metrics.get(N_CASES)
    fewest = 0 if expected is None else 1
    if type(n_cases) is not int or not fewest <= n_cases <= MAX_CASES:
        raise FederationError(f"the case count is no whole number from {fewest} to {MAX_CASES}")
    weights: Weights = {}
    if arrays is not None and expected is not None:
        try:
            weights = read_arrays(arrays)
        except (TypeError, ValueError):
            raise FederationError("the arrays are damaged") from None
        _check_arrays(weights, expected)
    return SiteUpdate(site, n_cases, _read_metrics(metrics, structures), weights)


def average(updates: Sequence[SiteUpdate]) -> Weights:
    """Mean of the sites' weights, each counting by its cases.

    Sums run in float64 and in the order of the sites' names, because replies come in any order
    and float sums depend on it; only the result is rounded to the type of the weights.

    Args:
        updates: At least one, of equal names, shapes and types.
    """
    ordered = sorted(updates, key=lambda update: update.site)
    n_cases = sum(update.n_cases for update in ordered)
    averaged: Weights = {}
    for name, like in ordered[0].weights.items():
        total = np.zeros(like.shape, dtype=np.float64)
        for update in ordered:
            total += update.n_cases * update.weights[name].astype(np.float64)
        averaged[name] = np.asarray(total / n_cases).astype(like.dtype)
    return averaged


def weighted_mean(values: Iterable[tuple[float | None, int]]) -> float | None:
    """Mean of (value, weight) pairs; None where no pair has a value."""
    known = [(value, weight) for value, weight in values if value is not None]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else None


def is_dice(metric: str) -> bool:
    """Whether a metric is the validation Dice of a structure."""
    return metric.startswith(_DICE)


def _check_arrays(found: Weights, expected: Weights) -> None:
    """Refuse what NumPy would broadcast, convert or average into NaN."""
    missing, unknown = expected.keys() - found.keys(), found.keys() - expected.keys()
    if missing or unknown:
        raise FederationError(
            f"{len(missing)} of {len(expected)} arrays are missing and {len(unknown)} are unknown"
        )
    for name, like in expected.items():
        array = found[name]
        if array.shape != like.shape:
            raise FederationError(f"{name} has shape {array.shape} instead of {like.shape}")
        if array.dtype != like.dtype:
            raise FederationError(f"{name} has type {array.dtype} instead of {like.dtype}")
        if not np.isfinite(array).all():
            raise FederationError(f"{name} holds NaN or infinity")


def _read_metrics(record: MetricRecord, structures: Collection[str]) -> dict[str, float]:
    """The metrics of a reply without its case count.

    Raises:
        FederationError: If one is not of the study, no finite number, or no possible Dice.
    """
    known = {N_CASES, *_DECLARED_METRICS, *(f"{_DICE}{name}" for name in structures)}
    if record.keys() - known:
        raise FederationError(f"{len(record.keys() - known)} metrics are not the study's")
    metrics = {}
    for name, value in record.items():
        if isinstance(value, list) or not math.isfinite(value):
            raise FederationError("a metric is not a finite number")
        if is_dice(name) and not 0 <= value <= 1:
            raise FederationError(f"{name} is not from 0 to 1")
        if name != N_CASES:
            metrics[name] = float(value)
    return metrics


def _meaning(code: int) -> str:
    """What an error code says; a code that is not ours says nothing more."""
    known = code in set(AgentErrorCode)
    return str(AgentError(AgentErrorCode(code))) if known else f"the site failed (code {code})"
