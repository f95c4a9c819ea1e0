"""What the owner of a study across hospitals writes, and what it asks of them in full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from segfed.privacy import with_noise
from segfed.protocol import Manifest
from segfed.settings import load_json, load_toml
from segfed.sites import load_task

_ONE_MACHINE = {"regimes", "sites", "budget"}
"""Keys that only the file of a study on one machine has."""


class StudyFile(Manifest):
    """A manifest as a person writes it, in TOML."""

    plan: dict[str, Any] = Field(default_factory=dict)
    """Changes to the task's network plan, by its keys."""

    @model_validator(mode="before")
    @classmethod
    def _no_regimes(cls, raw: Any) -> Any:
        """Say why, where somebody hands over the file of a study on one machine."""
        if isinstance(raw, dict) and (found := sorted(_ONE_MACHINE & raw.keys())):
            raise ValueError(
                f"{', '.join(found)} belong to a study on one machine (segfed study run): "
                "across hospitals a study trains one federated model, and pooled training, which "
                "would bring their images together, is refused. Remove regimes, sites and "
                "external_sites, write study instead of name, name one arm and one seed, and put "
                "rounds and steps_per_round above the first table instead of into [budget]"
            )
        return raw


def read_manifest(path: Path) -> Manifest:
    """The manifest in a file: complete in JSON, or in TOML with no more than changes to the plan.

    Args:
        path: The file; in TOML, a task may be the path of a task file, relative to this one.

    Raises:
        ConfigError: If the file or its task cannot be read; every problem is listed.
    """
    if path.suffix != ".toml":
        return load_json(path, Manifest, kind="manifest")
    from segfed.engine import make_plan

    study = load_toml(path, StudyFile, kind="study")
    is_file = study.task.endswith(".toml")
    task = load_task(str(path.resolve().parent / study.task) if is_file else study.task)
    plan = make_plan(task, study.plan).model_dump(mode="json")
    privacy = with_noise(
        study.privacy, rounds=study.rounds, steps_per_round=study.steps_per_round
    ).model_dump()
    fields = {"task": task.name, "plan": plan, "privacy": privacy}
    return Manifest.model_validate(study.model_dump() | fields)
