"""The site as a request sees it."""

from __future__ import annotations

import time

import pytest

from label_app.site_now import SETTLED_SECONDS, SiteNow
from segfed.errors import ConfigError
from segfed.sites import add_case
from segfed.sites.site import SITE_FILE, TASK_FILE
from tests.sites_samples import make_image, make_site


@pytest.fixture
def site(tmp_path):
    return make_site(tmp_path)


def an_hour_later() -> float:
    return time.time() + 3600


def test_a_site_that_did_not_change_is_read_once(site):
    now = SiteNow(site.folder, clock=an_hour_later)

    assert now() == site
    assert now() is now()


def test_what_changes_counts_at_once(site):
    now = SiteNow(site.folder, clock=an_hour_later)
    assert len(now().cases) == 2

    add_case(
        site.folder,
        task=site.task,
        case_id="case2",
        patient_id="patient2",
        split="train",
        channels={"t1": make_image(2)},
    )
    assert len(now().cases) == 3
    for name, old, new in ((SITE_FILE, "north", "south"), (TASK_FILE, "Beans", "Peas")):
        path = site.folder / name
        path.write_text(path.read_text().replace(old, new))
    assert (now().name, now().task.title) == ("south", "Peas in made-up MR")
    (site.folder / SITE_FILE).unlink()
    with pytest.raises(ConfigError):
        now()


def test_a_file_that_changes_twice_within_a_moment_is_read_twice(site):
    now, path = SiteNow(site.folder), site.folder / SITE_FILE
    path.write_text(path.read_text())  # the same size, and maybe the same time, as what follows

    assert now().name == "north"
    path.write_text(path.read_text().replace("north", "south"))
    assert now().name == "south"
    assert now() is not now(), f"kept only {SETTLED_SECONDS:g} s after the last change"
