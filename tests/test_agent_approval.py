"""What the hospital decided on a study."""

from __future__ import annotations

import json

import pytest

from segfed.agent.approval import approved_manifest, approved_studies, decide
from segfed.agent.refusal import RefusedError
from segfed.agent.signing import sign
from segfed.protocol import AgentErrorCode
from tests.agent_samples import NOON, approve, bean_manifest, labelled_site, make_owner, trust


@pytest.fixture
def asked(tmp_path):
    """A site, a study, and the key of its owner, whom the site trusts."""
    site, key = labelled_site(tmp_path, splits=()), make_owner(tmp_path)
    trust(site.folder, key)
    return site, bean_manifest(tmp_path), key


def record(site, manifest):
    return site.folder / "studies" / f"{manifest.sha256}.json"


def test_an_approved_study_is_found_by_its_hash(asked):
    site, manifest, key = asked
    approve(site, manifest, key=key)

    assert approved_manifest(site.folder, manifest.sha256) == manifest
    assert approved_studies(site.folder) == (manifest,)


def test_the_record_says_who_decided_what_when_and_whose_study_it_is(asked):
    site, manifest, key = asked
    approve(site, manifest, key=key)
    approve(site, manifest, key=key, approved=False)

    first, second = json.loads(record(site, manifest).read_text())["decisions"]
    assert first == {
        "approved": True,
        "by": "ann",
        "at": "2026-03-01T12:00:00Z",
        "signed_by": "owner",
    }
    assert second["approved"] is False


def test_a_study_nobody_decided_on_is_unknown(asked):
    site, manifest, _ = asked

    with pytest.raises(RefusedError, match="nobody here decided") as refused:
        approved_manifest(site.folder, manifest.sha256)
    assert refused.value.code == AgentErrorCode.UNKNOWN_STUDY


def test_the_last_decision_counts(asked):
    site, manifest, key = asked
    approve(site, manifest, key=key)
    approve(site, manifest, key=key, approved=False)

    with pytest.raises(RefusedError, match="was refused by ann on 2026-03-01"):
        approved_manifest(site.folder, manifest.sha256)
    assert approved_studies(site.folder) == ()


def test_a_manifest_changed_after_its_approval_is_refused(asked):
    site, manifest, key = asked
    approve(site, manifest, key=key)
    path = record(site, manifest)
    path.write_text(path.read_text().replace('"rounds": 3', '"rounds": 300'))

    with pytest.raises(RefusedError, match="was changed"):
        approved_manifest(site.folder, manifest.sha256)


def test_a_changed_manifest_is_refused_under_its_new_name_too(asked):
    site, manifest, key = asked
    approve(site, manifest, key=key)
    path, longer = record(site, manifest), manifest.model_copy(update={"rounds": 300})
    changed = path.read_text().replace('"rounds": 3', '"rounds": 300')
    record(site, longer).write_text(changed)

    with pytest.raises(RefusedError, match="not as a trusted owner signed it"):
        approved_manifest(site.folder, longer.sha256)


def test_a_key_that_is_no_longer_trusted_ends_the_approval(asked):
    site, manifest, key = asked
    approve(site, manifest, key=key)
    (site.folder / "study_owners" / "owner.pub").unlink()

    with pytest.raises(RefusedError, match="trusts nobody"):
        approved_manifest(site.folder, manifest.sha256)


def test_an_unsigned_study_cannot_be_approved_but_refused(asked):
    site, manifest, key = asked
    unsigned = sign(manifest, key).model_copy(update={"signature": ""})

    with pytest.raises(RefusedError, match="trusted owner"):
        decide(site, unsigned, approved=True, by="ann", at=NOON)
    assert not record(site, manifest).exists()
    assert not decide(site, unsigned, approved=False, by="ann", at=NOON).approved


def test_a_study_against_the_policy_cannot_be_approved(tmp_path):
    site, key = labelled_site(tmp_path, splits=(), minimum_rounds=9), make_owner(tmp_path)

    with pytest.raises(RefusedError, match="3 rounds are fewer than the 9"):
        approve(site, bean_manifest(tmp_path), key=key)


@pytest.mark.parametrize("name", ["../site", "", "f" * 63, "F" * 64, "f" * 64 + "\n"])
def test_a_name_that_is_no_hash_never_becomes_a_path(asked, name):
    site, _, _ = asked

    with pytest.raises(RefusedError, match="which is no hash"):
        approved_manifest(site.folder, name)


def test_a_damaged_record_is_refused(asked):
    site, manifest, key = asked
    approve(site, manifest, key=key)
    record(site, manifest).write_text("{}")

    with pytest.raises(RefusedError, match="has 2 problems") as refused:
        approved_manifest(site.folder, manifest.sha256)
    assert refused.value.code == AgentErrorCode.UNKNOWN_STUDY
