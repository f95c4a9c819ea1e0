"""What a study uses of a site."""

from __future__ import annotations

from segfed.agent.study_data import StudyData
from segfed.sites import submit_label
from tests.agent_samples import bean_manifest, labelled_site
from tests.sites_samples import make_label


def relabel(site, case_id, *, origin):
    submit_label(site, case_id=case_id, label=make_label(size=2), origin=origin, reader="ben")


def test_jobs_of_other_labels_or_another_study_lie_elsewhere(tmp_path):
    site, manifest = labelled_site(tmp_path), bean_manifest(tmp_path)
    first = StudyData(site, manifest).jobs
    other = StudyData(site, manifest.model_copy(update={"seed": 9})).jobs

    relabel(site, "case0", origin="manual")

    assert len({first, other, StudyData(site, manifest).jobs}) == 3


def test_labels_stay_as_they_were_read(tmp_path):
    site = labelled_site(tmp_path)
    data = StudyData(site, bean_manifest(tmp_path))
    before = data.train_labels

    relabel(site, "case0", origin="manual")

    assert data.train_labels == before


def test_validation_labels_are_drawn_by_hand_in_every_arm(tmp_path):
    site = labelled_site(tmp_path)
    relabel(site, "case2", origin="ai_corrected")

    (label,) = StudyData(site, bean_manifest(tmp_path, arm="mixed")).validation_labels

    assert label.record.arm == "manual"


def test_sites_draw_other_numbers_and_a_site_the_same_again(tmp_path):
    manifest = bean_manifest(tmp_path)
    north, south = (labelled_site(tmp_path, name=name) for name in ("north", "southern"))

    seeds = [StudyData(site, manifest).seed for site in (north, north, south)]

    assert seeds[0] == seeds[1] != seeds[2]
    assert all(0 <= seed < 2**32 for seed in seeds)
