"""The plan: everything about network, patches and intensities that all sites must share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
from pydantic import model_validator

from segfed.files import sha256_json
from segfed.settings import validated
from segfed.sites import PlanSettings, Task

N_CLICK_MAPS = 3
"""Of the clicks on a structure, of those beside it, and of what it was before them."""

# Raised when the same plan comes to mean other voxels, so that caches are made anew.
_PREPROCESSING_VERSION = 1


class Plan(PlanSettings):
    """A task's plan settings, with what the network must know about the task itself.

    Plain JSON values: a plan travels in the manifest that hospitals approve, and lies in every
    published model.
    """

    task: str
    modality: Literal["CT", "MR"]
    channels: tuple[str, ...]
    """Image channels, in the order in which the network sees them."""

    labels: dict[str, int]
    structures: dict[str, tuple[int, ...]]
    """What is trained for: named sets of label values, which may overlap."""

    window_hu: tuple[float, float] | None
    """CT only: intensities (lower, upper) mapped to 0 and 1."""

    click_label: str | None = None
    """Label that a reader's clicks correct; the network then has more inputs, their maps."""

    @model_validator(mode="after")
    def _coarsest_level_has_a_mean(self) -> Self:
        if self.patch_voxels == self.coarsest_voxel:
            raise ValueError(
                f"patch_voxels {self.patch_voxels} shrink to a single voxel after "
                f"{len(self.features)} levels with stem_stride {self.stem_stride}, which instance "
                "norm cannot scale; enlarge the patch or remove a level from features"
            )
        return self

    @model_validator(mode="after")
    def _clicks_correct_a_label(self) -> Self:
        if self.click_label is not None and self.click_label not in self.labels:
            raise ValueError(
                f"click_label {self.click_label!r} must be one of {', '.join(self.labels)}"
            )
        return self

    @property
    def n_inputs(self) -> int:
        """Channels that go into the network: the image's, and with clicks their maps."""
        return len(self.channels) + (0 if self.click_label is None else N_CLICK_MAPS)

    @property
    def click_target(self) -> tuple[str, int] | None:
        """Name and value of the label that clicks correct; None in a plan without clicks."""
        name = self.click_label
        return None if name is None else (name, self.labels[name])

    @property
    def n_classes(self) -> int:
        """Classes of the network: a class index is a label value, and 0 the background."""
        return 1 + max(self.labels.values())

    @property
    def kernels(self) -> tuple[tuple[int, int, int], ...]:
        """Sides of each level's convolutions along I, J and K, finest level first.

        With ``strides`` a level looks at its own slice alone, 1 instead of 3 along an axis, until
        its voxels are less than twice as long along that axis as along the shortest: what lies
        far away says little about a voxel (nnU-Net's rule). Without them all sides are 3.
        """
        if not self.strides:
            return ((3, 3, 3),) * len(self.features)
        sides: list[tuple[int, int, int]] = []
        voxel_mm, is_near = np.array(self.spacing_mm), np.zeros(3, dtype=bool)
        for stride in ((1, 1, 1), *self.strides[:-1]):
            voxel_mm = voxel_mm * stride
            is_near |= voxel_mm < 2 * voxel_mm.min()
            i, j, k = (3 if near else 1 for near in is_near)
            sides.append((i, j, k))
        return (*sides, (3, 3, 3))  # the coarsest level always looks around

    @property
    def sha256(self) -> str:
        """Hash of the canonical JSON."""
        return sha256_json(self.model_dump(mode="json"))

    @property
    def preprocessing_sha256(self) -> str:
        """Hash of what decides the preprocessed voxels: other settings leave caches valid."""
        return sha256_json(
            {
                "version": _PREPROCESSING_VERSION,
                "spacing_mm": self.spacing_mm,
                "window_hu": self.window_hu,
                "channels": self.channels,
            }
        )


def make_plan(task: Task, overrides: Mapping[str, Any] | None = None) -> Plan:
    """A task's plan, with some of its settings replaced.

    Args:
        task: The task.
        overrides: Settings of ``PlanSettings`` by name, as the ``plan`` table of a study file
            states them.

    Raises:
        ConfigError: If a setting is unknown or breaks a rule; every problem is listed.
    """
    settings = validated(
        {**task.plan.model_dump(), **(overrides or {})},
        PlanSettings,
        source=f"the plan of task {task.name!r}",
    )
    about_task = task.model_dump(
        include={"modality", "channels", "labels", "structures", "window_hu"}
    )
    return read_plan({**settings.model_dump(), **about_task, "task": task.name})


def read_plan(content: Mapping[str, Any]) -> Plan:
    """A plan from plain values, as a manifest or a published model holds them.

    Raises:
        ConfigError: If a setting is missing, unknown or breaks a rule; every problem is listed.
    """
    return validated(dict(content), Plan, source=f"the plan of task {content.get('task')!r}")
