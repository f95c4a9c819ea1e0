"""Evaluation profiles: which structures are scored by which metrics, and what empty masks score."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from segfed.errors import ConfigError
from segfed.evaluation import surface
from segfed.evaluation.lesions import PENALTY_MM, LesionRule
from segfed.sites.tasks import DEFAULT_TOLERANCE_MM, Task

DEFINITIONS = {
    "dice": "2|A∩B| / (|A|+|B|)",
    "surface_dice": "share of both surfaces within the tolerance; " + surface.DEFINITION,
    "hd95_mm": surface.HD95_DEFINITION,
    "sensitivity": "share of the reference's voxels that were predicted",
    "volume_difference_mm3": "predicted minus reference volume",
    "added_path_length": "voxels of the reference's in-slice contour that the predicted contour "
    "lacks (Vaassen et al. 2020)",
    "added_mm3": "volume in the reference and not in the prediction: what a reader had to add",
    "removed_mm3": "volume in the prediction and not in the reference: what a reader had to remove",
    "lesion_dice": "lesion-wise Dice of BraTS 2023, 26-connectivity",
    "lesion_hd95_mm": "lesion-wise HD95 of BraTS 2023, 374 mm for each false positive",
}
"""What each metric means, in words that a report prints."""

_BOTH_EMPTY_KITS = {"dice": 1.0, "surface_dice": 1.0}
_BOTH_EMPTY_BRATS = {"dice": 1.0, "hd95_mm": 0.0, "sensitivity": 1.0}
_ONE_EMPTY_BRATS = {"dice": 0.0, "hd95_mm": PENALTY_MM, "sensitivity": 0.0}
_BRATS_METRICS = ("dice", "hd95_mm", "sensitivity", "lesion_dice", "lesion_hd95_mm")


@dataclass(frozen=True)
class Profile:
    """Everything that a score depends on beside the two labels.

    ``both_empty`` and ``one_empty`` hold what a metric scores where the structure is missing in
    both labels or in one; a metric that they do not name keeps its own answer (overlap NaN or 0,
    distances NaN or infinite).
    """

    name: str
    structures: Mapping[str, tuple[int, ...]]
    metrics: tuple[str, ...]
    label_values: frozenset[int] = frozenset()
    """Values that a label may hold beside 0."""

    tolerance_mm: Mapping[str, float] = field(default_factory=dict)
    lesion_rules: Mapping[str, LesionRule] = field(default_factory=dict)
    both_empty: Mapping[str, float] = field(default_factory=dict)
    one_empty: Mapping[str, float] = field(default_factory=dict)


GENERIC = Profile(
    name="generic",
    structures={},
    metrics=(
        "dice",
        "surface_dice",
        "hd95_mm",
        "sensitivity",
        "volume_difference_mm3",
        "added_path_length",
        "added_mm3",
        "removed_mm3",
    ),
)

KITS23 = Profile(
    name="kits23",
    structures={"kidney_and_mass": (1, 2, 3), "mass": (2, 3), "tumor": (2,)},
    metrics=("dice", "surface_dice"),
    label_values=frozenset({1, 2, 3}),
    tolerance_mm={
        "kidney_and_mass": 1.0330772532390826,
        "mass": 1.1328796488598762,
        "tumor": 1.1498198361434828,
    },
    both_empty=_BOTH_EMPTY_KITS,
)

# KiTS19 itself ranked by Dice alone; its foreground is what KiTS23 calls kidney_and_mass, so the
# surface Dice beside it takes the tolerance of that class.
KITS19 = replace(
    KITS23,
    name="kits19",
    structures={"foreground": (1, 2), "tumor": (2,)},
    label_values=frozenset({1, 2}),
    tolerance_mm={
        "foreground": KITS23.tolerance_mm["kidney_and_mass"],
        "tumor": KITS23.tolerance_mm["tumor"],
    },
)

_BRATS_STRUCTURES = {"whole_tumor": (1, 2, 3), "tumor_core": (1, 3), "enhancing_tumor": (3,)}

BRATS2023 = Profile(
    name="brats2023",
    structures=_BRATS_STRUCTURES,
    metrics=_BRATS_METRICS,
    label_values=frozenset({1, 2, 3}),
    lesion_rules=dict.fromkeys(_BRATS_STRUCTURES, LesionRule()),
    # BraTS scores no surface Dice: for reports that show it beside the challenge's metrics.
    tolerance_mm=dict.fromkeys(_BRATS_STRUCTURES, DEFAULT_TOLERANCE_MM),
    both_empty=_BOTH_EMPTY_BRATS,
    one_empty=_ONE_EMPTY_BRATS,
)

_BRATS2024_STRUCTURES = {
    **_BRATS_STRUCTURES,
    "netc": (1,),
    "snfh": (2,),
    "resection_cavity": (4,),
}

# The rules of the first public release (rachitsaluja/BraTS-2024-Metrics at 0ee5855, 12 July 2024).
# Its HD95 and sensitivity of a whole structure compare lesion *numbers* with a mask and go wrong
# where there are several lesions, which is not reproduced; later releases changed dilations and
# penalties, and reduce the prediction before it is scored.
BRATS2024_GLI = replace(
    BRATS2023,
    name="brats2024-gli",
    structures=_BRATS2024_STRUCTURES,
    label_values=frozenset({1, 2, 3, 4}),
    tolerance_mm=dict.fromkeys(_BRATS2024_STRUCTURES, DEFAULT_TOLERANCE_MM),
    lesion_rules={
        **dict.fromkeys(("whole_tumor", "tumor_core"), LesionRule(minimum_mm3=20.0)),
        "netc": LesionRule(minimum_mm3=20.0, joined_by=("enhancing_tumor", "resection_cavity")),
        "snfh": LesionRule(
            minimum_mm3=20.0, joined_by=("enhancing_tumor", "resection_cavity", "netc")
        ),
        "enhancing_tumor": LesionRule(minimum_mm3=10.0, joined_by=("netc", "resection_cavity")),
        # The published code lowers the threshold to 10 mm³ for the enhancing tumor and never
        # raises it again before the resection cavity, which comes last: reproduced.
        "resection_cavity": LesionRule(minimum_mm3=10.0, joined_by=("enhancing_tumor", "netc")),
    },
)

PROFILES = {
    profile.name: profile for profile in (GENERIC, KITS19, KITS23, BRATS2023, BRATS2024_GLI)
}


def find_profile(name: str, *, task: Task | None = None, values: Iterable[int] = ()) -> Profile:
    """The profile of a name, with structures and tolerances filled in.

    Args:
        name: One of ``PROFILES``.
        task: Where the generic profile takes its structures and tolerances from. The named
            profiles own theirs and ignore it.
        values: Label values found in the data; without a task, the generic profile scores each
            nonzero one as a structure called ``label_<value>``, at a tolerance of 2 mm.

    Raises:
        ConfigError: If no profile has this name.
    """
    if name not in PROFILES:
        raise ConfigError(
            f"No evaluation profile is called {name!r}; known: {', '.join(PROFILES)}. "
            "Choose one of these."
        )
    if name != GENERIC.name:
        return PROFILES[name]
    if task is not None:
        return replace(
            GENERIC,
            structures=task.structures,
            label_values=frozenset(task.labels.values()),
            tolerance_mm=task.tolerance_mm,
        )
    found = sorted(set(values) - {0})
    structures = {f"label_{value}": (value,) for value in found}
    return replace(
        GENERIC,
        structures=structures,
        label_values=frozenset(found),
        tolerance_mm=dict.fromkeys(structures, DEFAULT_TOLERANCE_MM),
    )


def undefined_reason(metric: str, value: float) -> str | None:
    """Why a score is not a finite number, in words; None if it is one."""
    if math.isfinite(value):
        return None
    if math.isinf(value):
        return f"{metric} is infinite: the structure is empty in one of the two labels"
    return f"{metric} is undefined: the structure is empty in both labels"
