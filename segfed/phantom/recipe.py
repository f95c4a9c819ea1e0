"""How a phantom site was made, and its folder: written whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segfed.errors import ConfigError
from segfed.files import write_json, write_text
from segfed.phantom.readers import READER_FILE, Reader
from segfed.phantom.scanner import Scanner
from segfed.protocol import Split
from segfed.settings import Settings, toml_table, validated
from segfed.sites import Site, SiteSettings, create_site, load_site, submit_label
from segfed.sites.imports import OnCase
from segfed.volumes import Grid, Volume, write_label

RECIPE_FILE = Path("phantom") / "recipe.json"
_TRUTH_FOLDER = Path("phantom") / "truth"

# A fixed clock, so that the same seed gives the same ledger
_FIRST_OPENED = datetime(2026, 1, 5, 8, tzinfo=UTC)


class SiteRecipe(Settings):
    """Everything on which a phantom site depends; kept in it as ``phantom/recipe.json``."""

    version: int = 1
    """Raised when the same recipe would give other images."""

    name: str
    task: str
    data: Literal["synthetic", "rendered"]
    external: bool = False
    seed: int
    index: int
    """Number of the site: with the seed it starts the site's random generators."""

    scanner: Scanner
    reader: Reader
    lesion_scale: float = 1.0
    cases: dict[str, Split]
    """Split of every case."""

    spacing_mm: float | None = None
    """Nominal for synthetic images; for rendered ones the spacing to which masks are thinned."""

    def rng(self, *stream: int) -> np.random.Generator:
        """A generator of this site's own, the same for the same numbers."""
        return np.random.default_rng([self.seed, self.index, *stream])


def truth_path(site_folder: Path, case_id: str) -> Path:
    """Where a phantom site keeps the true label of a case, which no reader sees."""
    return site_folder / _TRUTH_FOLDER / f"{case_id}.nii.gz"


def build_sites(
    folder: Path,
    recipes: Sequence[SiteRecipe],
    fill: Callable[[Site, SiteRecipe, Callable[[], None]], None],
    *,
    on_case: OnCase | None = None,
) -> tuple[Site, ...]:
    """The sites that recipes make, each in a folder of its name.

    A site is filled under another name and takes its own when it is complete, so that a killed
    run leaves nothing behind that looks like a site. One that its recipe made before is kept.

    Args:
        folder: Folder of the site folders.
        recipes: What each site is made of.
        fill: Adds the recipe's cases and labels to an empty site; to be told it calls its last
            argument after each case.
        on_case: Called after each case with the number done and the number in all.

    Raises:
        ConfigError: If another site lies in one of the folders.
    """
    n_cases = sum(len(recipe.cases) for recipe in recipes)
    n_done = 0

    def report(n_more: int = 1) -> None:
        nonlocal n_done
        n_done += n_more
        if on_case:
            on_case(n_done, n_cases)

    for recipe in recipes:
        if (folder / recipe.name).exists():
            _check_made_by(folder / recipe.name, recipe)
    for recipe in recipes:
        if (folder / recipe.name).exists():
            report(len(recipe.cases))
            continue
        site = _start_site(folder / f".partial-{recipe.name}", recipe)
        fill(site, recipe, report)
        site.folder.rename(folder / recipe.name)
    return tuple(load_site(folder / recipe.name) for recipe in recipes)


def _start_site(folder: Path, recipe: SiteRecipe) -> Site:
    """An empty site in a folder that is cleared first."""
    if folder.exists():
        shutil.rmtree(folder)
    settings = SiteSettings(
        name=recipe.name,
        task=recipe.task,
        contact="nobody: this hospital is made up",
        data=recipe.data,
        external=recipe.external,
    )
    site = create_site(folder, settings)
    write_json(folder / RECIPE_FILE, recipe.model_dump(mode="json"))
    write_text(folder / READER_FILE, toml_table(recipe.reader.model_dump(mode="json")))
    return site


def write_truth(site: Site, case_id: str, label: NDArray[np.uint8], grid: Grid) -> None:
    """Keep a case's true label apart from what readers submit."""
    write_label(Volume(label[np.newaxis], grid), truth_path(site.folder, case_id))


class Workday:
    """Submits hand-drawn labels with the times at which a reader would have finished them."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._now = _FIRST_OPENED

    def submit(
        self,
        case_id: str,
        label: NDArray[np.uint8],
        grid: Grid,
        *,
        reader: str,
        active_seconds: float | None = None,
    ) -> None:
        """Record one label as drawn by hand, after the one before it."""
        opened_at = self._now
        self._now += timedelta(seconds=active_seconds or 60.0)
        submit_label(
            self._site,
            case_id=case_id,
            label=Volume(label[np.newaxis], grid),
            origin="manual",
            arm="manual",
            reader=reader,
            opened_at=opened_at,
            submitted_at=self._now,
            active_seconds=active_seconds,
        )


def _check_made_by(folder: Path, recipe: SiteRecipe) -> None:
    """Refuse a folder that this recipe did not make."""
    path = folder / RECIPE_FILE
    if not path.is_file():
        raise ConfigError(
            f"{folder} exists, but holds no {RECIPE_FILE}: it is not a site that was generated "
            "here. Choose another folder."
        )
    found = validated(json.loads(path.read_text(encoding="utf-8")), SiteRecipe, source=str(path))
    if found != recipe:
        fields = [name for name in SiteRecipe.model_fields if _differs(found, recipe, name)]
        raise ConfigError(
            f"{folder} holds a site that was generated by another recipe; different: "
            f"{', '.join(fields)}. Ask for the same sites again, choose another folder, or delete "
            "this one."
        )


def _differs(first: Settings, second: Settings, field: str) -> bool:
    return bool(getattr(first, field) != getattr(second, field))
