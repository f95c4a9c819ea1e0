"""How often the report finds readers who accept wrong proposals, and how often it errs.

    python benchmarks/anchoring.py [--cases N] [--studies N]

Readers are simulated on kidney phantoms, without any training: a proposal is the truth with
coarse contours, some tumors missed and some made up. A reader by hand never sees it; a reader of
the assisted arm corrects it, and leaves a wrong region with a known probability; the last kind of
reader leaves none on purpose, but redraws only what lies further than 4 mm from their own contour.
What is wrong is told by a third reader's label. Studies draw their cases from one pool, so that
the rates are a little less certain than the number of studies says. Wanted are 2.5 % of alarms
or fewer where nobody is anchored.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from segfed.evaluation import anchoring_gap, proposal_errors
from segfed.phantom.kidneys import FIELD_MM, KIDNEY, TUMOR, kidney_case
from segfed.phantom.readers import Reader, correct, draw
from segfed.study.settings import EvaluationSettings
from segfed.volumes import Grid

SPACING_MM = (3.0, 3.0, 4.0)
TOLERANCE_MM = EvaluationSettings().error_tolerance_mm
HANDS = {name: Reader(name=name) for name in ("manual", "reference", "assisted")}
COARSE = Reader(name="model", contour_sd_mm=2.5)
MISSED = MADE_UP = 0.35
HABITS = {
    "none": {},
    "5 % of errors": {"anchoring": 0.05},
    "10 % of errors": {"anchoring": 0.1},
    "30 % of errors": {"anchoring": 0.3},
    "30 % of small ones": {"small_anchoring": 0.3},
    "whatever lies within 4 mm": {"redraws_all": False},
}


@dataclass(frozen=True)
class Judged:
    """Share of a proposal's errors that each label of a case repeats; NaN without an error."""

    manual: float
    assisted: dict[str, float]


def make_truth(rng: np.random.Generator) -> np.ndarray:
    """One kidney with its tumors, cropped to what readers look at."""
    shape = tuple(int(size / step) for size, step in zip(FIELD_MM, SPACING_MM, strict=True))
    label = kidney_case(rng, Grid(shape, np.diag([*SPACING_MM, 1.0])))
    half = label[: shape[0] // 2] if rng.random() < 0.5 else label[shape[0] // 2 :]
    box = ndimage.find_objects((half > 0).astype(np.uint8))[0]
    return np.pad(half[box], 5)


def propose(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a middling model would make of it."""
    proposal = draw(truth, COARSE, spacing_mm=SPACING_MM, rng=rng).label
    tumors, n_tumors = ndimage.label(proposal == TUMOR)
    for number in range(1, n_tumors + 1):
        if rng.random() < MISSED:
            proposal[tumors == number] = KIDNEY
    if rng.random() < MADE_UP:
        inside = np.argwhere(truth == KIDNEY)
        offset = (np.indices(truth.shape).T - inside[rng.integers(len(inside))]) * SPACING_MM
        ball = rng.uniform(7, 14) >= np.linalg.norm(offset, axis=-1).T
        proposal[ball & (proposal > 0)] = TUMOR
    return proposal


def judge_case(seed: int) -> Judged:
    """One case read by everybody."""
    rng = np.random.default_rng(seed)
    truth = make_truth(rng)
    proposal = propose(truth, rng)
    reference, manual = (
        draw(truth, HANDS[name], spacing_mm=SPACING_MM, rng=rng).label
        for name in ("reference", "manual")
    )

    def share(label: np.ndarray) -> float:
        errors = proposal_errors(
            proposal, reference, label, spacing_mm=SPACING_MM, tolerance_mm=TOLERANCE_MM
        )
        return float(np.mean([error.is_repeated for error in errors])) if errors else float("nan")

    return Judged(
        manual=share(manual),
        assisted={
            name: share(
                correct(
                    proposal,
                    truth,
                    HANDS["assisted"].model_copy(update={"redraws_all": True, **habit}),
                    spacing_mm=SPACING_MM,
                    # The same hand each time: habits differ in what is left alone.
                    rng=np.random.default_rng(seed),
                ).label
            )
            for name, habit in HABITS.items()
        },
    )


def measure(
    pool: list[Judged], *, n_cases: int, crossover: bool, n_studies: int
) -> dict[str, float]:
    """Share of studies of four sites in which anchoring is found, for each habit."""
    rng, found = np.random.default_rng(0), dict.fromkeys(HABITS, 0)
    for _ in range(n_studies):
        drawn = rng.choice(len(pool), size=(4, 2, n_cases), replace=False)
        for habit in HABITS:
            manual = {
                f"site{site}": {f"case{c}": pool[c].manual for c in cases}
                for site, (cases, _) in enumerate(drawn)
            }
            assisted = {
                f"site{site}": {
                    f"case{c}": pool[c].assisted[habit] for c in (cases if crossover else others)
                }
                for site, (cases, others) in enumerate(drawn)
            }
            low = anchoring_gap(manual, assisted).ci_low
            found[habit] += low is not None and low > 0
    return {habit: count / n_studies for habit, count in found.items()}


def main() -> None:
    """Print what readers did in the pool, and one line for each size and design of a study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=240)
    parser.add_argument("--studies", type=int, default=1000)
    options = parser.parse_args()
    pool = [judge_case(seed) for seed in range(options.cases)]
    n_wrong = sum(judged.manual == judged.manual for judged in pool)
    print(f"{len(pool)} cases, {n_wrong} with an error beyond {TOLERANCE_MM:g} mm; repeated by")
    print(f"  manual readers: {np.nanmean([judged.manual for judged in pool]):.1%}")
    for habit in HABITS:
        rate = np.nanmean([judged.assisted[habit] for judged in pool])
        print(f"  assisted readers, anchoring {habit}: {rate:.1%}")
    for crossover in (True, False):
        for n_cases in (8, 25):
            rates = measure(pool, n_cases=n_cases, crossover=crossover, n_studies=options.studies)
            shown = ", ".join(f"{habit}: {rate:.1%}" for habit, rate in rates.items())
            design = "crossover" if crossover else "parallel"
            print(f"found in a {design} of 4 sites, {n_cases} cases an arm: {shown}", flush=True)


if __name__ == "__main__":
    main()
