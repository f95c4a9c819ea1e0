"""Differential privacy as a study states it: whose data, how much, and by which noise."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from segfed.settings import Settings

Unit = Literal["patient", "site"]
"""Whose whole data may be there or not without anybody being able to tell."""


class DifferentialPrivacy(Settings):
    """``[privacy] differential_privacy``: a budget that all rounds of a study together may spend.

    * ``patient``: DP-SGD at the site (Abadi et al., CCS 2016). Each step draws patients by chance,
      shortens each one's gradient to ``clip_norm`` and adds noise to their sum.
    * ``site``: each site adds its part of the noise to its clipped update, and the server sees
      nothing but the sum.
    """

    unit: Unit
    epsilon: Annotated[float, Field(gt=0, le=100)]
    """Budget of the study at each site; 100 is no protection any more."""

    delta: Annotated[float, Field(gt=0, lt=0.1)]
    """Chance that the promise does not hold; less than one in the number of units."""

    clip_norm: PositiveFloat | None = None
    """Longest gradient of one patient; for ``site`` it is the ``clip_norm`` of ``[privacy]``."""

    sampling_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Chance of each patient to be drawn in a step, by a coin of its own."""

    noise_multiplier: PositiveFloat | None = None
    """Standard deviation of the noise in units of the clipping norm; as much as the planned steps
    need to stay within ``epsilon``, unless stated."""

    @model_validator(mode="after")
    def _fits_the_unit(self) -> Self:
        if self.unit == "patient" and self.clip_norm is None:
            raise ValueError(
                "unit 'patient' needs clip_norm, the longest gradient of one patient: state it, "
                "1.0 is a usual value"
            )
        if self.unit == "site" and (self.clip_norm is not None or self.sampling_rate < 1):
            raise ValueError(
                "unit 'site' has no clip_norm and no sampling_rate of its own: remove them. The "
                "clip_norm of [privacy] bounds the update, and every site is asked in every round"
            )
        return self

    def planned_steps(self, *, rounds: int, steps_per_round: int) -> int:
        """How often noise is drawn in a study."""
        return rounds * (steps_per_round if self.unit == "patient" else 1)

    def steps_of_round(self, steps_per_round: int) -> int:
        """How often noise is drawn in a round."""
        return self.planned_steps(rounds=1, steps_per_round=steps_per_round)


def statement(rules: DifferentialPrivacy, *, epsilon: float) -> tuple[str, ...]:
    """What is promised, of whom, by which mechanism and under which assumptions, in sentences.

    Args:
        rules: As the study states them, with their noise.
        epsilon: What is spent, or planned.
    """
    shown = math.ceil(epsilon * 1000) / 1000
    noise = f"noise multiplier {rules.noise_multiplier or math.nan:g}"
    promise = (
        f"(epsilon, delta) = ({shown:g}, {rules.delta:g}) for all rounds together, by Opacus' "
        "accountant (Renyi)."
    )
    if rules.unit == "patient":
        return (
            f"Differential privacy, unit one training patient of one site: {promise}",
            f"Mechanism: DP-SGD at the site. A step draws each patient with chance "
            f"{rules.sampling_rate:g}, clips the patient's gradient to {rules.clip_norm:g} and "
            f"adds Gaussian noise, {noise}.",
            "Assumed: a patient is at one site, under one patient_id; the number of training "
            "patients may be known. Not covered: validation and test patients, whose mean scores "
            "leave; plans made from fingerprints; how long a round takes.",
        )
    return (
        f"Differential privacy, unit one whole site: {promise}",
        "Mechanism: every site clips its update and adds its part of the Gaussian noise, "
        f"{noise} in the sum, which is all that the server sees; each site counts once.",
        "Assumed: at least as many sites as the threshold add their noise and keep it to "
        "themselves. Not covered: that a site takes part, how long a round takes, plans made from "
        "fingerprints.",
    )
