"""What can be segmented: one TOML file a task, built in or written by a hospital."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from segfed.errors import CaseError, ConfigError, LabelError
from segfed.settings import Settings, load_toml

BUILTIN_FOLDER = Path(__file__).parent / "builtin_tasks"
TASK_SOURCE = "task"
"""The declared source of labels that already hold the task's own values."""

DEFAULT_TOLERANCE_MM = 2.0
"""Surface tolerance of a structure for which the task states none."""

LabelValue = Annotated[int, Field(ge=1, le=255)]
Stride = Literal[1, 2]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=60)]


class PlanSettings(Settings):
    """How a task's network is built and fed, where nothing else is asked for."""

    spacing_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    """Voxel spacing after resampling, in mm, in RAS axis order."""

    patch_voxels: tuple[PositiveInt, PositiveInt, PositiveInt]
    """Training patch (I, J, K), in voxels of the resampled grid."""

    features: Annotated[tuple[PositiveInt, ...], Field(min_length=2, max_length=7)]
    """Channels of each resolution level, finest first."""

    strides: tuple[tuple[Stride, Stride, Stride], ...] = ()
    """Per level after the first, 2 along each axis that it halves and 1 along the others; where
    none are given, every level halves all three axes."""

    stem_stride: Literal[1, 2] = 1
    """With 2 the finest level already works at half resolution, which saves most of the time."""

    batch_size: PositiveInt = 2
    learning_rate: PositiveFloat = 1e-3

    mirror_axes: tuple[Literal[0, 1, 2], ...] = (0,)
    """RAS axes along which training patches are mirrored; 0 is left-right."""

    deep_supervision: bool = False

    group_norm: bool = False
    """Even out up to 8 groups of each level's channels instead of every channel by itself."""

    residual: bool = False
    """Let each level change what comes into it instead of replacing it."""

    autotune: bool = False
    """On a GPU let cuDNN try its convolutions and compile the network (``torch.compile``) for
    training: a seed then no longer decides the weights to the last bit."""

    @property
    def level_strides(self) -> tuple[tuple[int, int, int], ...]:
        """Stride along I, J and K of each level after the first."""
        return self.strides or ((2, 2, 2),) * (len(self.features) - 1)

    @property
    def coarsest_voxel(self) -> tuple[int, int, int]:
        """Voxels along I, J and K that one voxel of the coarsest level stands for."""
        i, j, k = (
            math.prod(axis) * self.stem_stride for axis in zip(*self.level_strides, strict=True)
        )
        return i, j, k

    @model_validator(mode="after")
    def _patch_survives_downsampling(self) -> Self:
        n_levels = len(self.features)
        if len(self.level_strides) != n_levels - 1:
            raise ValueError(
                f"found {len(self.strides)} strides for {n_levels} levels; expected "
                f"{n_levels - 1}, one for each level after the first, or none at all"
            )
        steps = self.coarsest_voxel
        pairs = list(zip(self.patch_voxels, steps, strict=True))
        if any(size % step for size, step in pairs):
            nearest = tuple(max(step, round(size / step) * step) for size, step in pairs)
            times = tuple(step.bit_length() - 1 for step in steps)
            raise ValueError(
                f"patch_voxels {self.patch_voxels} must be multiples of {_once(steps)}, because "
                f"{n_levels} levels with stem_stride {self.stem_stride} halve the patch "
                f"{_once(times)} times; nearest: {nearest}"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_later_settings(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Plans are identified by the hash of this: those from before there were these keep theirs
        content: dict[str, Any] = dump(self)
        later = ("strides", "click_label", "group_norm", "residual", "autotune")
        return {key: value for key, value in content.items() if key not in later or value}


def _once(values: tuple[int, ...]) -> int | tuple[int, ...]:
    """All of some numbers, or the one that they all are."""
    return values[0] if len(set(values)) == 1 else values


class Task(Settings):
    """An organ and modality: channels, label values, structures, and how sources number them."""

    name: Name
    title: str
    """One line for people."""

    modality: Literal["CT", "MR"]
    channels: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Image channels, in the order in which the network sees them."""

    display_channel: str
    """The channel that a reader sees first; the first one where the file names none."""

    channel_aliases: dict[str, str] = Field(default_factory=dict)
    """Other names of the channels, in any case: ``{"flair": "t2f"}``."""

    labels: Annotated[dict[Name, LabelValue], Field(min_length=1)]
    structures: Annotated[dict[Name, tuple[LabelValue, ...]], Field(min_length=1)]
    """What is trained for and scored: named sets of label values."""

    remaps: dict[str, dict[int, int]] = Field(default_factory=dict)
    """By declared source, every value that its labels may hold and what it means here."""

    window_hu: tuple[float, float] | None = None
    """CT only: intensities (lower, upper) mapped to 0 and 1; values outside are clipped."""

    tolerance_mm: dict[str, PositiveFloat]
    """Surface tolerance of every structure, in mm; 2 where the file states none."""

    plan: PlanSettings

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, raw: Any) -> Any:
        """The defaults that depend on other fields."""
        if not isinstance(raw, dict):
            return raw
        structures, stated = raw.get("structures", {}), raw.get("tolerance_mm", {})
        filled = dict(raw)
        if raw.get("channels"):
            filled.setdefault("display_channel", next(iter(raw["channels"])))
        if isinstance(structures, dict) and isinstance(stated, dict):
            filled["tolerance_mm"] = dict.fromkeys(structures, DEFAULT_TOLERANCE_MM) | stated
        return filled

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        problems = list(self._contradictions())
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _contradictions(self) -> Iterator[str]:
        """One phrase for each way in which two parts of the file disagree."""
        values = set(self.labels.values())
        if len(values) < len(self.labels):
            yield f"labels {self.labels} must all have different values"
        if len(set(self.channels)) < len(self.channels):
            yield f"channels {self.channels} must all have different names"
        if self.display_channel not in self.channels:
            yield f"display_channel {self.display_channel!r} must be one of {self.channels}"
        for alias, channel in self.channel_aliases.items():
            if channel not in self.channels:
                yield f"channel_aliases.{alias} = {channel!r} must be one of {self.channels}"
        for name, members in self.structures.items():
            if not members or not set(members) <= values:
                yield f"structures.{name} {members} must name values of labels {sorted(values)}"
        for source, table in self.remaps.items():
            if not set(table.values()) <= values | {0}:
                yield f"remaps.{source} {table} must lead to 0 or values of labels {sorted(values)}"
        for name in self.tolerance_mm.keys() - self.structures.keys():
            yield f"tolerance_mm.{name} names no structure; structures: {list(self.structures)}"
        if (self.window_hu is None) == (self.modality == "CT"):
            yield f"window_hu must be given for CT and left out for MR, got {self.window_hu}"
        elif self.window_hu is not None and self.window_hu[0] >= self.window_hu[1]:
            yield f"window_hu must be (lower, upper), got {self.window_hu}"

    def channel_named(self, name: str) -> str:
        """The channel that a name or alias means, whatever its case.

        Raises:
            CaseError: If the task has no such channel.
        """
        known = {channel.lower(): channel for channel in self.channels}
        known |= {alias.lower(): channel for alias, channel in self.channel_aliases.items()}
        if name.lower() not in known:
            raise CaseError(
                f"{name!r} is no channel of task {self.name!r}, which knows {', '.join(known)}. "
                "Rename the file, or add the name to the task's channel_aliases."
            )
        return known[name.lower()]

    def check_label_values(self, values: Iterable[int], *, case_id: str, path: Path) -> None:
        """Refuse a label that holds a value which the task does not know.

        Args:
            values: The distinct values of the label; 0 is background.
            case_id: Case to name in the message.
            path: File to name in the message.

        Raises:
            LabelError: Naming case, file, what was found and what was expected.
        """
        unknown = sorted({int(value) for value in values} - set(self.labels.values()) - {0})
        if unknown:
            known = ", ".join(f"{value} {name}" for name, value in self.labels.items())
            raise LabelError(
                f"Case {case_id}: {path} holds the label value(s) {unknown}, but task "
                f"{self.name!r} knows 0 background, {known}. Correct the label, or import it "
                "with the source whose values it uses."
            )

    def remap_table(self, source: str) -> Mapping[int, int]:
        """What every label value of a declared source means in this task; 0 stays 0.

        Raises:
            ConfigError: If the task has no table for that source.
        """
        if source == TASK_SOURCE:
            return {0: 0} | {value: value for value in self.labels.values()}
        if source not in self.remaps:
            known = ", ".join([*self.remaps, TASK_SOURCE])
            raise ConfigError(
                f"Task {self.name!r} has no table for labels from {source!r}; it knows {known}. "
                f"Declare one of these ({TASK_SOURCE!r}: the values are already the task's own), "
                f"or add [remaps.{source}] to the task file."
            )
        return {0: 0} | self.remaps[source]

    def remap_label(
        self, label: NDArray[np.integer[Any]], *, source: str, case_id: str, path: Path
    ) -> NDArray[np.uint8]:
        """A source's label in this task's values, by the table of the declared source.

        The values seen never choose the table: 4 is enhancing tumor in one source and a
        resection cavity in another.

        Raises:
            ConfigError: If the task has no table for that source.
            LabelError: If the label holds a value that the table does not list.
        """
        table = self.remap_table(source)
        found = [int(value) for value in np.unique(label)]
        unknown = [value for value in found if value not in table]
        if unknown:
            raise LabelError(
                f"Case {case_id}: {path} holds the label value(s) {unknown}, but labels from "
                f"{source!r} hold {sorted(table)} in task {self.name!r}. Declare the source that "
                "the label comes from, or correct the label."
            )
        remapped = np.zeros(label.shape, dtype=np.uint8)
        for value in found:
            remapped[label == value] = table[value]
        return remapped


def list_tasks() -> tuple[str, ...]:
    """Names of the built-in tasks."""
    return tuple(sorted(path.stem for path in BUILTIN_FOLDER.glob("*.toml")))


def load_task(name_or_path: str | Path) -> Task:
    """A built-in task by its name, or the task in a TOML file.

    Raises:
        ConfigError: If there is no such task, or its file breaks a rule; every problem is listed.
    """
    name = str(name_or_path)
    if name in list_tasks():
        return load_toml(BUILTIN_FOLDER / f"{name}.toml", Task, kind="task")
    if not name.endswith(".toml"):
        close = difflib.get_close_matches(name, list_tasks(), n=1)
        hint = f"Did you mean {close[0]!r}?" if close else "Or give the path of a .toml file."
        raise ConfigError(f"No task {name!r}; built in are {', '.join(list_tasks())}. {hint}")
    return load_toml(Path(name_or_path), Task, kind="task")
