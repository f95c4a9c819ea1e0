"""What one study uses of a site: labels, prepared cases, and the folder of its finished jobs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from segfed import __version__
from segfed.engine import Plan, PreparedCase, prepare, read_plan
from segfed.files import sha256_json
from segfed.protocol import Manifest
from segfed.sites import LabelledCase, Site, select_labels


@dataclass(frozen=True)
class StudyData:
    """Nothing is read before it is asked for; labels then stay as they were."""

    site: Site
    manifest: Manifest

    @cached_property
    def plan(self) -> Plan:
        """The study's plan."""
        return read_plan(self.manifest.plan)

    @cached_property
    def train_labels(self) -> tuple[LabelledCase, ...]:
        """Labels of the study's arm, one a training case."""
        return select_labels(self.site, split=self.manifest.train_split, arm=self.manifest.arm)

    @cached_property
    def validation_labels(self) -> tuple[LabelledCase, ...]:
        """Hand-drawn in every arm: arms must differ in their training labels only."""
        return select_labels(self.site, split="validation", arm="manual", required=False)

    def train_cases(self) -> tuple[PreparedCase, ...]:
        """The training cases in the order of their labels, for a trainer, which keeps them."""
        return prepare(self.train_labels, self.plan, self._cache)

    @cached_property
    def validation_cases(self) -> tuple[PreparedCase, ...]:
        """The validation cases in the order of their labels."""
        return prepare(self.validation_labels, self.plan, self._cache)

    @property
    def seed(self) -> int:
        """The study's seed, turned so that no two sites draw the same numbers; below 2^32."""
        text = f"{self.manifest.seed}/{self.site.name}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])

    @cached_property
    def jobs(self) -> Path:
        """Where this study's finished jobs lie; other labels or code make it another study."""
        used = [
            [item.case.image_sha256, item.record.label_sha256]
            for item in (*self.train_labels, *self.validation_labels)
        ]
        key = sha256_json(
            {"manifest": self.manifest.sha256, "labels": used, "version": __version__}
        )
        return self._cache / "jobs" / key[:16]

    @property
    def _cache(self) -> Path:
        return self.site.folder / "cache"
