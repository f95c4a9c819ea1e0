"""A site: the folder that a hospital owns, its settings, task and cases."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from segfed.errors import CaseError, ConfigError
from segfed.files import replacing, write_text
from segfed.protocol import Split
from segfed.settings import Settings, load_toml, toml_table
from segfed.sites.cases import Case, read_cases
from segfed.sites.ledger import Ledger
from segfed.sites.tasks import Name, Task, list_tasks, load_task

SITE_FILE = "site.toml"
LEDGER_FILE = "ledger.sqlite"
TASK_FILE = "task.toml"


class Policy(Settings):
    """What the hospital allows; checked by its own agent before anything is read."""

    studies: tuple[str, ...] = ("*",)
    """Names of the studies that may train here; ``*`` stands for any run of letters."""

    minimum_train_cases: PositiveInt = 1
    """Fewer training cases than this send no weights."""

    minimum_metric_cases: PositiveInt = 1
    """Fewer scored cases than this send no metric values; fewer training cases, or fewer cases with
    a structure, enter no fingerprint."""

    minimum_rounds: PositiveInt = 1
    """Studies shorter than this are refused."""

    maximum_epsilon: PositiveFloat | None = None
    """The most that all studies together may spend here, at ``maximum_delta``, counted as if all
    were of the same patients; studies without differential privacy are refused. No limit, unless
    stated."""

    maximum_delta: Annotated[float, Field(gt=0, lt=0.1)] = 1e-5

    scan_marks: bool = False
    """Whether keyed hashes of single scans may be handed over, to find the same scan elsewhere."""


class ReadingSettings(Settings):
    """How the label server watches over readers."""

    idle_minutes: PositiveFloat = 30.0
    """Longer than this from opening a case to its submission counts as this much work."""

    lease_hours: PositiveFloat = 8.0
    """So long a case that one reader opened is not offered to others."""


class AgentSettings(Settings):
    """Where the site's agent listens, and to whom."""

    socket: str = ""
    """Path of the Unix socket; in the system's runtime folder where none is named."""

    peers: tuple[NonNegativeInt, ...] = ()
    """Numbers of the users whose programs may connect; only the agent's own unless named.

    Another user must also belong to the socket's group, which is that of the agent's process."""

    largest_message_mb: PositiveInt = 2048
    """Larger requests are refused unread."""


class SiteSettings(Settings):
    """``site.toml``."""

    name: Name
    task: str
    """A built-in task's name, or the path of a task file, relative to ``site.toml``."""

    contact: str = ""
    data: Literal["real", "synthetic", "rendered"] = "real"
    """Where the images come from; every report that uses them says so."""

    external: bool = False
    """An external site never trains: models are only scored on it."""

    policy: Policy = Policy()
    reading: ReadingSettings = ReadingSettings()
    agent: AgentSettings = AgentSettings()


@dataclass(frozen=True)
class Site:
    """A site's folder as it was when it was loaded."""

    folder: Path
    settings: SiteSettings
    task: Task
    cases: tuple[Case, ...]

    @property
    def name(self) -> str:
        """The site's name in studies and reports."""
        return self.settings.name

    def split(self, name: Split) -> tuple[Case, ...]:
        """The cases of one split, in the order of their import."""
        return tuple(case for case in self.cases if case.split == name)

    def case(self, case_id: str) -> Case:
        """One case by its name.

        Raises:
            CaseError: If the site has no such case.
        """
        for case in self.cases:
            if case.case_id == case_id:
                return case
        close = difflib.get_close_matches(case_id, [case.case_id for case in self.cases], n=1)
        hint = f"Did you mean {close[0]!r}?" if close else "Import it first."
        raise CaseError(f"Site {self.name} has no case {case_id!r} among {len(self.cases)}. {hint}")

    def ledger(self) -> Ledger:
        """The record of the site's labels."""
        return Ledger(self.folder / LEDGER_FILE)


def load_site(folder: Path) -> Site:
    """The site in a folder.

    Raises:
        ConfigError: If ``site.toml``, the task file or the list of cases is missing or wrong.
        CaseError: If the list of cases contradicts itself.
    """
    if not (folder / SITE_FILE).exists():
        raise ConfigError(_no_site(folder))
    settings = load_toml(folder / SITE_FILE, SiteSettings, kind="site")
    is_file = settings.task.endswith(".toml")
    task = load_task(folder / settings.task if is_file else settings.task)
    return Site(folder, settings, task, read_cases(folder, task))


def _no_site(folder: Path) -> str:
    """Why a folder is no site, and which folders in it are."""
    if not folder.is_dir():
        return (
            f"There is no folder {folder}; expected a site's folder, which holds {SITE_FILE}. "
            "Check the path, or make a site with `segfed site init`."
        )
    inside = sorted(str(path.parent) for path in folder.glob(f"*/{SITE_FILE}"))
    return f"{folder} is no site's folder: it holds no {SITE_FILE}. " + (
        f"Give one of the sites in it: {', '.join(inside)}."
        if inside
        else "Check the path, or make a site with `segfed site init`."
    )


def create_site(folder: Path, settings: SiteSettings) -> Site:
    """A new site without cases, or the one that is there already with the same settings.

    A task file is copied into the site, so that the hospital's folder is complete in itself.

    Args:
        folder: Where the site will lie.
        settings: Its settings; a task file's path is relative to the current folder here.

    Raises:
        ConfigError: If the task does not exist, or another site lies in the folder.
    """
    task = load_task(settings.task)
    builtin = settings.task in list_tasks()
    stored = settings if builtin else settings.model_copy(update={"task": TASK_FILE})
    if (folder / SITE_FILE).exists():
        site = load_site(folder)
        if (site.settings, site.task) != (stored, task):
            raise ConfigError(
                f"{folder} already holds site {site.name!r} with other settings: "
                f"{'; '.join(_differences(site, stored, task))}. Choose another folder, or correct "
                f"{folder / SITE_FILE}."
            )
        return site
    folder.mkdir(parents=True, exist_ok=True)
    if not builtin:
        with replacing(folder / TASK_FILE) as staged:
            shutil.copyfile(settings.task, staged)
    write_text(folder / SITE_FILE, _as_toml(stored))
    return load_site(folder)


def _differences(site: Site, settings: SiteSettings, task: Task) -> Iterator[str]:
    """What a site has and what was asked for, setting by setting."""
    for key, wanted in settings:
        if (found := getattr(site.settings, key)) != wanted:
            yield f"{key} is {found!r} there and {wanted!r} here"
    if site.task != task:
        yield f"its file of task {site.task.name!r} says something else than that of {task.name!r}"


def _as_toml(settings: SiteSettings) -> str:
    """The settings as a person would write them, each group in its own table."""
    content = settings.model_dump(mode="json")
    groups = {name: content.pop(name) for name in ("policy", "reading", "agent")}
    tables = "".join(f"\n[{name}]\n{toml_table(group)}" for name, group in groups.items())
    return toml_table(content) + tables
