"""What studies have spent of a site's privacy budget: written down before anything is learned.

The file lies beside approvals and rounds, not in the cache, which may be emptied at any time. It
only ever grows; putting an older copy back would forget what has left.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from segfed.dp_rules import DifferentialPrivacy, Unit
from segfed.errors import BudgetError
from segfed.files import locked, write_text
from segfed.privacy.accounting import Mechanism, spent_epsilon
from segfed.settings import Settings, load_json

SPENT_FILE = Path("privacy") / "spent.json"


class Charge(Settings):
    """A training of one round, from one model, and the noise that it draws."""

    study: str
    manifest_sha256: str
    round: int
    base_sha256: str
    """Of the model that the round starts from."""

    unit: Unit
    noise_multiplier: float
    sampling_rate: float
    steps: int
    """As many as were planned: it is charged before the first one."""

    released: bool = False
    """Whether its update may have left. Before, the same round may be trained again at no cost:
    of what a killed process computed nobody saw anything."""

    @property
    def mechanism(self) -> Mechanism:
        """What the accountant asks for."""
        return Mechanism(self.noise_multiplier, self.sampling_rate, self.steps)

    @property
    def job(self) -> tuple[str, int, str]:
        """Names the job: study, round and starting model."""
        return self.manifest_sha256, self.round, self.base_sha256


class Spent(Settings):
    """``privacy/spent.json``."""

    charges: tuple[Charge, ...] = ()


@dataclass(frozen=True)
class Limit:
    """The most that may be spent."""

    epsilon: float
    delta: float


def charge(
    site_folder: Path, wanted: Charge, *, rules: DifferentialPrivacy, total: Limit | None
) -> float:
    """Write down a training before it begins; returns the epsilon that its study has spent then.

    A training that was begun before, and of which nothing has left, costs nothing again. Any
    other one does: also that of the same round from another model, or after the stored update was
    lost.

    Args:
        site_folder: The site.
        wanted: The training.
        rules: Of its study.
        total: The hospital's own limit over all studies, if it has one.

    Raises:
        BudgetError: If the study's budget or the hospital's does not suffice; nothing is written.
        ConfigError: If the file cannot be read.
    """
    with _locked(site_folder):
        charges = read_charges(site_folder)
        is_there = any(item.job == wanted.job and not item.released for item in charges)
        after = charges if is_there else (*charges, wanted)
        epsilon = study_epsilon(after, wanted.manifest_sha256, delta=rules.delta)
        if not is_there:
            _check(epsilon, Limit(epsilon=rules.epsilon, delta=rules.delta), of=wanted.study)
            if total is not None:
                everything = spent_epsilon((c.mechanism for c in after), delta=total.delta)
                _check(everything, total, of="all studies together")
            _write(site_folder, after)
    return epsilon


def release(site_folder: Path, wanted: Charge) -> None:
    """Note that the update of a training leaves now, so that another one of it would cost.

    Raises:
        BudgetError: If the training was never charged.
        ConfigError: If the file cannot be read.
    """
    with _locked(site_folder):
        charges = read_charges(site_folder)
        if not any(item.job == wanted.job for item in charges):
            raise BudgetError(
                f"An update of study {wanted.study!r}, round {wanted.round}, was to leave, but "
                f"{site_folder / SPENT_FILE} holds no charge for it; expected one. The file was "
                "removed or replaced: put the latest copy back."
            )
        _write(
            site_folder,
            tuple(
                item.model_copy(update={"released": True}) if item.job == wanted.job else item
                for item in charges
            ),
        )


def read_charges(site_folder: Path) -> tuple[Charge, ...]:
    """All trainings that were charged at a site, in their order.

    Raises:
        ConfigError: If the file cannot be read.
    """
    path = site_folder / SPENT_FILE
    return load_json(path, Spent, kind="privacy budget").charges if path.exists() else ()


def study_epsilon(charges: tuple[Charge, ...], manifest_sha256: str, *, delta: float) -> float:
    """What one study has spent."""
    return spent_epsilon(
        (item.mechanism for item in charges if item.manifest_sha256 == manifest_sha256),
        delta=delta,
    )


def _check(epsilon: float, limit: Limit, *, of: str) -> None:
    """Refuse to go beyond a limit."""
    if epsilon > limit.epsilon:
        raise BudgetError(
            f"The privacy budget of {of} is spent: after another round epsilon would be "
            f"{epsilon:.4g} at delta {limit.delta:g}, expected at most {limit.epsilon:g}. The "
            "study ends here; another one of the same patients would add to what is spent."
        )


def _write(site_folder: Path, charges: tuple[Charge, ...]) -> None:
    text = Spent(charges=charges).model_dump_json(indent=1)
    write_text(site_folder / SPENT_FILE, text + "\n")


def _locked(site_folder: Path) -> AbstractContextManager[None]:
    """Hold the file, so that two trainings at one time are both charged."""
    path = site_folder / SPENT_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    return locked(path.with_suffix(".lock"))
