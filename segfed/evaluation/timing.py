"""How long assisted labels take beside manual ones, whoever read which case when."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec

Floats = NDArray[np.float64]

MINIMUM_READERS = 3
"""Fewest readers whose variance a mixed model is asked for; fewer are taken as they are."""

MIXED = "mixed model with random readers and cases"
FIXED = "least squares with readers and cases as they are"
UNPAIRED = "least squares with readers as they are, on different cases"


@dataclass(frozen=True)
class Timing:
    """The work behind one label."""

    site: str
    reader: str
    case: str
    arm: str
    """``manual`` or ``assisted``."""

    period: int | None
    """Of a crossover; None where nobody was assigned."""

    seconds: float


@dataclass(frozen=True)
class TimeRatio:
    """Geometric ratio of assisted over manual seconds; None where it cannot be told."""

    ratio: float | None
    ci_low: float | None
    ci_high: float | None
    n_labels: int
    n_cases: int
    n_readers: int
    method: str = ""
    accounts_for_period: bool = False
    """False where there is one period only, or where the period cannot be told from the arm."""

    reason: str = ""


def time_ratio(timings: Sequence[Timing], *, level: float = 0.95) -> TimeRatio:
    """The ratio of times for the same reader, case and period, with an interval for new cases.

    The logarithm of the seconds is explained by arm and period (fixed) and by reader and case
    (random, crossed). Where that model cannot be fitted, or below ``MINIMUM_READERS``, readers and
    cases are fixed too: in a crossover that is the paired comparison. The t interval takes the
    degrees of freedom that are left with everything fixed.

    Args:
        timings: One for each label; seconds are positive.
        level: Coverage of the interval.

    Returns:
        The ratio; without an interval where the arms share no reader, or with too few labels.

    References:
        Brown and Prescott 2015, *Applied Mixed Models in Medicine*, chapters 5 and 7.
    """
    readers = _codes([f"{t.site}/{t.reader}" for t in timings])
    cases = _codes([f"{t.site}/{t.case}" for t in timings])
    nothing = TimeRatio(None, None, None, len(timings), _n(cases), _n(readers))
    if {t.arm for t in timings} != {"manual", "assisted"}:
        return replace(nothing, reason="times of one arm only" if timings else "no times")
    y: Floats = np.log([t.seconds for t in timings])
    arm = np.array([[float(t.arm == "assisted")] for t in timings])
    by_reader, by_case = _dummies(readers), _dummies(cases)
    period = _dummies(_codes([str(t.period) for t in timings]))[:, 1:]
    if not _tells(arm, by_reader):
        difference = float(y[arm[:, 0] == 1].mean() - y[arm[:, 0] == 0].mean())
        reason = "no reader has labels of both arms: readers cannot be told from arms"
        return replace(nothing, ratio=math.exp(difference), reason=reason)
    if not (period.shape[1] and _tells(arm, np.hstack([period, by_reader]))):
        period = period[:, :0]
    known = np.hstack([period, by_reader])
    is_paired = _tells(arm, np.hstack([known, by_case]))
    design = np.hstack([arm, known, by_case]) if is_paired else np.hstack([arm, known])
    freedom = len(timings) - int(np.linalg.matrix_rank(design))
    found = None
    if nothing.n_readers >= MINIMUM_READERS and freedom > 0:
        fixed = np.hstack([arm, np.ones_like(arm), period])
        found = _fit_mixed(y, fixed, readers=by_reader, cases=by_case)
    mean, error = found or _fit_fixed(y, design, freedom=freedom)
    ratio = replace(
        nothing,
        ratio=math.exp(mean),
        method=MIXED if found else FIXED if is_paired else UNPAIRED,
        accounts_for_period=period.shape[1] > 0,
    )
    if error is None:
        return replace(ratio, reason="too few labels for an interval")
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    return replace(ratio, ci_low=math.exp(mean - half), ci_high=math.exp(mean + half))


def _fit_mixed(
    y: Floats, fixed: Floats, *, readers: Floats, cases: Floats
) -> tuple[float, float] | None:
    """The arm's effect (first column) and its standard error; None where the fit is no good."""
    parts = {"reader": readers, "case": cases}
    components = VCSpec(
        list(parts),
        [[[f"{name}{i}" for i in range(of.shape[1])]] for name, of in parts.items()],
        [[of] for of in parts.values()],
    )
    # Readers and cases are crossed: everything is one group, and each is a component of variance.
    model = MixedLM(y, fixed, groups=np.zeros(len(y)), exog_vc=components)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            fit = model.fit(reml=True)
    except (np.linalg.LinAlgError, ValueError):
        return None
    mean, error = float(fit.fe_params[0]), float(fit.bse_fe[0])
    return (mean, error) if fit.converged and math.isfinite(error) and error > 0 else None


def _fit_fixed(y: Floats, design: Floats, *, freedom: int) -> tuple[float, float | None]:
    """The arm's effect (first column) and its standard error; None without freedom left."""
    coefficients = np.linalg.lstsq(design, y, rcond=None)[0]
    if freedom < 1:
        return float(coefficients[0]), None
    variance = ((y - design @ coefficients) ** 2).sum() / freedom
    # The other columns need not be of full rank; the arm's effect does not depend on them.
    covariance = np.linalg.pinv(design.T @ design)
    return float(coefficients[0]), float(np.sqrt(variance * covariance[0, 0]))


def _tells(column: Floats, others: Floats) -> bool:
    """Whether a column's effect can be told from those of other columns."""
    rank = np.linalg.matrix_rank
    return bool(rank(np.hstack([column, others])) > rank(others))


def _codes(names: Sequence[str]) -> NDArray[np.intp]:
    """Each name as its number among the sorted ones."""
    codes: NDArray[np.intp] = np.unique(np.array(names, dtype=str), return_inverse=True)[1]
    return codes


def _n(codes: NDArray[np.intp]) -> int:
    """How many different names there are."""
    return len(set(codes.tolist()))


def _dummies(codes: NDArray[np.intp]) -> Floats:
    """A column for each name, with 1 where it occurs."""
    return np.eye(_n(codes))[codes]
