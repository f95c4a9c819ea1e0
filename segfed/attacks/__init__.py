"""What a trained model, or an update on its way, gives away about the patients behind it."""

from segfed.attacks.advantage import FEWEST_PATIENTS, Advantage, Candidate, attack_advantage
from segfed.attacks.inversion import (
    Exposure,
    Inversion,
    InversionSettings,
    invert_updates,
    usual_exposures,
)
from segfed.attacks.membership import CaseFit, case_fit

__all__ = [
    "FEWEST_PATIENTS",
    "Advantage",
    "Candidate",
    "CaseFit",
    "Exposure",
    "Inversion",
    "InversionSettings",
    "attack_advantage",
    "case_fit",
    "invert_updates",
    "usual_exposures",
]
