"""What the server checks of a site's reply before it counts."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from statistics import median

import numpy as np
from flwr.app import Message, MetricRecord
from flwr.common.constant import ErrorCode
from numpy.typing import NDArray

from federation.messages import ARRAYS, METRICS, N_CASES, Weights, content_bytes, read_arrays
from segfed.errors import FederationError
from segfed.privacy import compressed_form, decompress, method_of
from segfed.protocol import AgentError, AgentErrorCode, Manifest
from segfed.rules import FederationRules

_DICE = "dice_"
_DECLARED_METRICS = frozenset({"loss", "seconds", "steps", "epsilon"})

# A reply may carry metrics and Flower's headers beside the arrays, but not a second model.
_SPARE_BYTES = 1_000_000


# Two norms have no middle one that either could be far from; neither have two case counts.
_FEWEST_NORMS = 3
_FEWEST_COUNTS = 3

# As for norms: honest hospitals differ by small factors, and nobody can check a count.
_LARGEST_COUNT_RATIO = 10


@dataclass(frozen=True)
class SiteUpdate:
    """One site's checked reply, without its weights."""

    site: str
    n_cases: int
    metrics: dict[str, float]
    norm: float = 0.0
    """Euclidean norm of (update - global model) over all tensors; 0 where there are no weights."""

    def count(self, rules: FederationRules) -> int:
        """What the update is weighted by."""
        return rules.count(n_cases=self.n_cases, steps=self.metrics["steps"])


def believed_counts(updates: Collection[SiteUpdate], rules: FederationRules) -> dict[str, int]:
    """What each site's update is weighted by: no case count above ten times the round's median.

    Nobody can check how many cases a site has; without the limit, one that claims a huge number
    would replace the model. Among fewer than three sites nothing is a usual count.
    """
    counts = {update.site: update.count(rules) for update in updates}
    if rules.weighting == "steps" or len(counts) < _FEWEST_COUNTS:
        return counts
    most = int(_LARGEST_COUNT_RATIO * median(counts.values()))
    return {site: min(count, most) for site, count in counts.items()}


def read_update(
    reply: Message,
    *,
    site: str,
    manifest: Manifest,
    model: Weights | None,
    is_masked: bool = False,
) -> tuple[SiteUpdate, Weights]:
    """A reply that may count, and its weights; none after validation.

    Args:
        reply: What came back.
        site: Who sent it, by the server's own table; what replies say of themselves can be forged.
        manifest: The study; it limits counts, names the structures that may have a Dice, and says
            how far an update may lie from the model.
        model: The global model that the site trained, whose names, shapes and types the update
            must have, or their changes once they are decompressed; None for a reply without
            weights.
        is_masked: Whether a reply without weights is that of a training whose update follows
            under masks; else it is one of a validation, which may be of no case.

    Raises:
        FederationError: Saying in a phrase why the reply must not count. The phrase holds nothing
            that the site could have written.
    """
    if reply.has_error():
        raise failure(reply.error.code)
    method = method_of(manifest.federation.compression)
    form = compressed_form(model, method=method) if model and method else model or {}
    size_limit = sum(array.nbytes for array in form.values()) + _SPARE_BYTES
    if content_bytes(reply.content) > size_limit:
        raise FederationError(f"the reply is larger than {size_limit} bytes")
    records = reply.content.metric_records.get(METRICS)
    arrays = reply.content.array_records.get(ARRAYS)
    if records is None or (arrays is None) != (model is None):
        raise FederationError("the reply lacks a record, or has one too many")
    n_cases, most = records.get(N_CASES), manifest.federation.max_cases
    fewest = 0 if model is None and not is_masked else 1
    if type(n_cases) is not int or not fewest <= n_cases <= most:
        raise FederationError(f"the case count is no whole number from {fewest} to {most}")
    metrics = _read_metrics(records, manifest.plan.get("structures", ()))
    if fewest:
        _check_steps(metrics, manifest)
    if arrays is None or model is None:
        return SiteUpdate(site, n_cases, metrics), {}
    try:
        weights = read_arrays(arrays)
    except ValueError:
        raise FederationError("the arrays are damaged") from None
    if method is not None:
        _check_arrays(weights, form)
        update = decompress(weights, like=model, method=method)
        weights = {name: _moved(start, update[name]) for name, start in model.items()}
    _check_arrays(weights, model)
    norm = distance(weights, model)
    limit = manifest.federation.max_update_norm
    if limit is not None and norm > limit:
        raise FederationError(f"the update's norm is {norm:.3g}, expected at most {limit:g}")
    return SiteUpdate(site, n_cases, metrics, norm), weights


def outliers(updates: Collection[SiteUpdate], *, max_ratio: float) -> dict[str, str]:
    """Sites whose update is far larger than the round's median, each with the reason.

    A site that took more steps than the median site may lie as many times farther: one fast site
    among slow ones is no attacker. Below three updates, and where most sites changed nothing, no
    norm is remarkable.

    Args:
        updates: The round's updates.
        max_ratio: Largest norm in units of the median.
    """
    usual = median(update.norm for update in updates) if updates else 0.0
    if len(updates) < _FEWEST_NORMS or usual == 0:
        return {}
    usual_steps = median(update.metrics["steps"] for update in updates)
    reasons = {}
    for update in updates:
        more_steps = max(1.0, update.metrics["steps"] / usual_steps)
        if update.norm > max_ratio * more_steps * usual:
            reasons[update.site] = (
                f"the update's norm is {update.norm / usual:.3g} times the round's median, "
                f"expected at most {max_ratio * more_steps:g} times"
            )
    return reasons


def distance(weights: Weights, model: Weights) -> float:
    """Euclidean norm of the difference of two models over all tensors."""
    total = 0.0
    for name, start in model.items():
        difference = np.subtract(weights[name], start, dtype=np.float64).ravel()
        total += float(difference @ difference)
    return math.sqrt(total)


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


def _moved(start: NDArray[np.generic], change: NDArray[np.generic]) -> NDArray[np.generic]:
    """Weights moved by a site's change of them, in their own type; the caller checks the result."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.add(start, change, dtype=start.dtype))


def _check_steps(metrics: dict[str, float], manifest: Manifest) -> None:
    """Refuse a number of steps that the site was not asked to take, or none at all."""
    steps, most = metrics.get("steps"), manifest.steps_per_round
    if steps is None or not steps.is_integer() or not 1 <= steps <= most:
        raise FederationError(f"the step count is no whole number from 1 to {most}")


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


def failure(code: int) -> FederationError:
    """What an error code says; but for one, a code that is not ours says nothing more."""
    if code in set(AgentErrorCode):
        return AgentError(AgentErrorCode(code))
    if code == ErrorCode.NODE_UNAVAILABLE:
        return FederationError("the site's node went away")
    return FederationError(f"the site failed (code {code})")


def has_code(error: FederationError, code: AgentErrorCode) -> bool:
    """Whether a site said that it failed for this reason."""
    return isinstance(error, AgentError) and error.code == code
