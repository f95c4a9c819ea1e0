"""``study.toml``: which label arms and training regimes are compared, on which sites."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from segfed.errors import ConfigError
from segfed.privacy import with_noise
from segfed.protocol import ArmChoice
from segfed.rules import FederationRules, PrivacyRules, check_together
from segfed.settings import Settings, load_toml
from segfed.sites import list_tasks

Regime = Literal["local", "pooled", "ensemble", "federated"]
Seed = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=60)]


class Budget(Settings):
    """How long each model trains, in optimizer steps: a gap of steps is no gap of data."""

    rounds: PositiveInt
    steps_per_round: PositiveInt
    """Steps of every site in every round, at most."""

    seconds_per_round: PositiveFloat | None = None
    """A site of a federation begins no step after so many seconds of a round, so that a slow one
    does not stall the rest; the local and pooled models take all their steps."""

    local_steps: PositiveInt | None = None
    """Steps of a local model; as many as one site takes in the federation, unless stated."""

    pooled_steps: PositiveInt | None = None
    """Steps of the pooled model; as many as all sites take together, unless stated."""

    def local(self) -> int:
        """Steps of a model that one site trains alone."""
        return self.local_steps or self.rounds * self.steps_per_round

    def pooled(self, *, n_sites: int) -> int:
        """Steps of the model that trains on the cases of all sites."""
        return self.pooled_steps or n_sites * self.rounds * self.steps_per_round


class EvaluationSettings(Settings):
    """How models are compared; declared before the run."""

    profile: Literal["generic"] = "generic"
    """Metrics and their rules for empty masks."""

    margin: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """Largest loss of Dice at which assisted labels still count as no worse than manual ones."""

    structures: tuple[str, ...] = ()
    """Structures that must all stay within the margin; every structure where none is named."""

    error_tolerance_mm: PositiveFloat = 6.0
    """A proposal is clearly wrong where it lies further than this from the reference: of such
    places the report says how often readers repeat them."""

    n_bootstrap: Annotated[int, Field(ge=100)] = 2000
    """Samples behind each interval."""


class CardSettings(Settings):
    """What no record of a run can tell, in a person's own words; a card marks it as such."""

    intended_use: str = ""
    """For what, by whom and for which patients the model is meant, and its clinical role."""

    limits: str = ""
    """Known patients, scanners and findings for which it must not be used."""

    institutions: str = ""
    """Full names, sources and dates of the data, ethics approval."""

    patients: str = ""
    """Age, sex, diagnosis and stage, in each partition; period of the examinations."""

    scanners: str = ""
    """Makers and models, protocols, contrast agent."""

    label_protocol: str = ""
    """Instructions to the readers, their training and years of experience."""

    deidentification: str = ""
    """How images were de-identified before their import."""

    registration: str = ""
    """Register and number of the trial, or that there is none."""

    funding: str = ""
    """Sources of funding and support, and what the funders decided."""


class StudySettings(Settings):
    """Everything that a study depends on; saved beside its results."""

    name: Name
    task: str
    """A built-in task's name, or the path of a task file, relative to the study file."""

    sites: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Folders of the sites that train, relative to the study file."""

    external_sites: tuple[Path, ...] = ()
    """Folders of sites that never train: models are only scored on their test cases."""

    arms: Annotated[tuple[ArmChoice, ...], Field(min_length=1)] = ("manual",)
    """Labels to train on; ``mixed`` takes half of either kind where a case has both."""

    regimes: Annotated[tuple[Regime, ...], Field(min_length=1)] = (
        "local",
        "pooled",
        "ensemble",
        "federated",
    )
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    train_split: Literal["warmup", "train"] = "train"
    """``warmup`` trains the model that proposes, ``train`` the models that are compared."""

    budget: Budget
    federation: FederationRules = FederationRules()
    """Algorithm, quorum, deadlines and checks of the federated models."""

    privacy: PrivacyRules = PrivacyRules()
    """What the server of a federation sees of each site's update."""

    plan: dict[str, Any] = Field(default_factory=dict)
    """Changes to the task's network plan, by its keys."""

    evaluation: EvaluationSettings = EvaluationSettings()
    card: CardSettings = CardSettings()
    """Free text for the model card; changes no figure."""

    device: str = "auto"
    """``cpu``, ``cuda``, or ``auto`` for the fastest there is."""

    @property
    def compares(self) -> bool:
        """Whether its models are scored; those of the warm-up cases are there to propose."""
        return self.train_split == "train"

    @model_validator(mode="before")
    @classmethod
    def _on_one_machine(cls, raw: Any) -> Any:
        """Say so where somebody hands over the file of a study across hospitals."""
        if isinstance(raw, dict) and "study" in raw and "name" not in raw:
            raise ValueError(
                f"study = {raw['study']!r} begins the file of a study across hospitals, which "
                "`segfed federate` signs and submits. For a study on one machine write name "
                "instead of study, name the sites, write arms and seeds as lists, and put rounds "
                "and steps_per_round into a table [budget]"
            )
        return raw

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        for key in ("sites", "external_sites", "arms", "regimes", "seeds"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise ValueError(f"{key} lists something twice: {', '.join(map(str, values))}")
        both = sorted(str(path) for path in set(self.sites) & set(self.external_sites))
        if both:
            raise ValueError(
                f"{', '.join(both)} cannot be both in sites and in external_sites: an external "
                "site never trains"
            )
        if "ensemble" in self.regimes and "local" not in self.regimes:
            raise ValueError("regime 'ensemble' averages the local models: add 'local' to regimes")
        if "federated" in self.regimes and len(self.sites) < 2:
            raise ValueError(
                f"regime 'federated' needs at least 2 sites, got {len(self.sites)}: add a site, "
                "or remove 'federated' from regimes"
            )
        if "federated" in self.regimes and self.federation.minimum_sites > len(self.sites):
            raise ValueError(
                f"federation.minimum_sites is {self.federation.minimum_sites}, but the study has "
                f"{len(self.sites)} sites: lower it, or add sites"
            )
        check_together(
            self.federation, self.privacy, seconds_per_round=self.budget.seconds_per_round
        )
        threshold = self.privacy.threshold
        if threshold is not None and not threshold <= len(self.sites) < 2 * threshold:
            raise ValueError(
                f"privacy.threshold is {threshold}, but the study has {len(self.sites)} sites: "
                f"take {len(self.sites) // 2 + 1} to {len(self.sites)}"
            )
        return self


def load_study(path: Path) -> StudySettings:
    """The study in a TOML file, its paths made absolute and its noise computed.

    Raises:
        ConfigError: If the file is missing or breaks a rule; every problem is listed at once,
            with a suggestion for each misspelt key.
    """
    settings = load_toml(path, StudySettings, kind="study")
    folder = path.resolve().parent
    missing = [
        str(site)
        for site in (*settings.sites, *settings.external_sites)
        if not (folder / site).is_dir()
    ]
    if missing:
        raise ConfigError(
            f"{path} names site folders that are not there: {', '.join(missing)}; expected them "
            f"relative to {folder}. Correct the paths, or create the sites first."
        )
    builtin = settings.task in list_tasks() or not settings.task.endswith(".toml")
    return settings.model_copy(
        update={
            "privacy": with_noise(
                settings.privacy,
                rounds=settings.budget.rounds,
                steps_per_round=settings.budget.steps_per_round,
            ),
            "sites": tuple((folder / site).resolve() for site in settings.sites),
            "external_sites": tuple((folder / site).resolve() for site in settings.external_sites),
            "task": settings.task if builtin else str((folder / settings.task).resolve()),
        }
    )
