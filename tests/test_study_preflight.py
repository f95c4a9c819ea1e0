"""Everything that stops a study does so before anything is trained."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from scipy import ndimage

from segfed.dp_rules import DifferentialPrivacy
from segfed.errors import CaseError, ConfigError
from segfed.rules import PrivacyRules
from segfed.sites import add_case, load_site, submit_label
from segfed.study.duplicates import duplicate_warnings
from segfed.study.preflight import check_study
from segfed.volumes import Grid, Volume
from tests.study_samples import block, make_settings, make_site, make_sites


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    root = tmp_path_factory.mktemp("pristine")
    make_sites(root)
    return root


@pytest.fixture
def root(tmp_path, pristine):
    """A folder with sites ``a``, ``b`` and ``x`` that a test may spoil."""
    return shutil.copytree(pristine, tmp_path, dirs_exist_ok=True)


def test_a_site_with_fewer_cases_than_its_policy_asks_for_is_named(root):
    path = root / "b" / "site.toml"
    path.write_text(path.read_text().replace("minimum_train_cases = 1", "minimum_train_cases = 3"))

    with pytest.raises(ConfigError, match="site b trains on 3 cases or more, found 2"):
        check_study(make_settings(root))


def test_a_promise_that_a_site_would_refuse_is_named_before_anything_trains(root):
    path = root / "b" / "site.toml"
    path.write_text(path.read_text().replace("[policy]", "[policy]\nmaximum_epsilon = 4.0"))
    # Two training patients: a delta of 1/2 or more could show one of them in full.
    private = DifferentialPrivacy(unit="patient", epsilon=8, delta=0.09, clip_norm=1.0)
    settings = make_settings(root, privacy=PrivacyRules(differential_privacy=private))

    check_study(settings)
    with pytest.raises(ConfigError, match=r"site b has a maximum_epsilon, found no privacy"):
        check_study(make_settings(root))
    loose = private.model_copy(update={"delta": 0.5})
    with pytest.raises(ConfigError, match=r"needs a delta below 1 / 2, found .*delta = 0.5"):
        check_study(make_settings(root, privacy=PrivacyRules(differential_privacy=loose)))


def test_a_sound_study_lists_its_labels_and_warns_of_few_test_cases(root):
    data = check_study(make_settings(root))

    assert [len(site.train["manual"]) for site in data.sites] == [2, 2]
    assert [len(site.validation) for site in data.everywhere] == [1, 1, 0]
    assert [len(site.test) for site in data.everywhere] == [2, 2, 5]
    assert len(data.warnings) == 2
    assert data.warnings[0].startswith("a has 2 test cases, fewer than 5")


def test_a_site_without_cases_is_named(root):
    make_site(root, "empty", seed=9, splits=())

    with pytest.raises(CaseError, match="Site empty has no case"):
        check_study(make_settings(root, sites=(root / "a", root / "empty")))


def test_a_site_without_training_cases_is_named(root):
    make_site(root, "untrainable", seed=9, splits=("test", "test"))

    with pytest.raises(CaseError, match=r"Site untrainable .* has no case in split 'train'"):
        check_study(make_settings(root, sites=(root / "a", root / "untrainable")))


def test_damaged_images_of_several_sites_are_listed_together(root):
    for name in ("a", "b"):
        (root / name / "images" / f"{name}-0.nii.gz").write_bytes(b"no image")

    with pytest.raises(CaseError, match=r"a-0(.|\n)*b-0"):
        check_study(make_settings(root))


def test_an_external_site_cannot_train(root):
    settings = make_settings(root, sites=(root / "a", root / "x"), external_sites=())

    with pytest.raises(ConfigError, match=r"site x is external in its site\.toml"):
        check_study(settings)


def test_an_arm_without_labels_is_named(root):
    with pytest.raises(CaseError, match=r"2 of 2 cases in split 'train' have no assisted label"):
        check_study(make_settings(root, arms=("manual", "assisted")))


def test_a_policy_that_does_not_admit_the_study_refuses_it(root):
    path = root / "a" / "site.toml"
    path.write_text(path.read_text().replace('["*"]', '["other-*"]'))

    with pytest.raises(ConfigError, match=r"site a admits the studies other-\*, not 'small'"):
        check_study(make_settings(root))


def test_two_sites_cannot_share_a_name(root):
    shutil.copytree(root / "a", root / "copy")

    with pytest.raises(ConfigError, match="2 sites are called 'a'"):
        check_study(make_settings(root, sites=(root / "a", root / "copy")))


def test_an_image_that_one_site_trains_on_cannot_be_tested_on_at_another(root):
    # The same seed makes the same images: a-0 is a training case, c-0 a test case.
    make_site(root, "c", seed=1, splits=("test",))

    with pytest.raises(CaseError, match=r"c/c-0 is a/a-0 \(train\)"):
        check_study(make_settings(root, external_sites=(root / "c",)))


def test_unknown_structures_are_refused(root):
    settings = make_settings(root)
    evaluation = settings.evaluation.model_copy(update={"structures": ("spleen",)})

    with pytest.raises(ConfigError, match=r"evaluation\.structures names spleen"):
        check_study(settings.model_copy(update={"evaluation": evaluation}))


def test_a_proposal_of_an_unpublished_model_is_warned_of(root):
    assist(load_site(root / "a"), "a" * 64)
    assist(load_site(root / "b"), None)

    data = check_study(make_settings(root, arms=("manual", "assisted")))

    assert any("model aaaaaaaaaaaa, which is not" in warning for warning in data.warnings)


def test_a_proposal_of_a_model_that_saw_the_case_is_a_leak(root):
    first, other = load_site(root / "a").split("train")
    model = pretend_bundle(load_site(root / "a"), {"a": [first.image_sha256], "b": []})
    assist(load_site(root / "a"), model)
    assist(load_site(root / "b"), None)

    warnings = check_study(make_settings(root, arms=("assisted",))).warnings

    leaks = [warning for warning in warnings if warning.startswith("Proposal leak at a")]
    assert len(leaks) == 1
    assert first.case_id in leaks[0]
    assert other.case_id not in leaks[0]


def assist(site, model_sha256):
    """Give every training case a label that began as a proposal."""
    for case in site.split("train"):
        submit_label(
            site,
            case_id=case.case_id,
            label=block(3),
            origin="ai_corrected",
            reader="assisted-reader",
            model_sha256=model_sha256,
        )


def pretend_bundle(site, train_images):
    """A published model's weights and lineage, without a network; returns the weights' hash."""
    folder = site.folder / "models" / site.task.name / "0123"
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "model.safetensors").write_bytes(b"weights")
    lineage = {
        "study": "warmup",
        "arm": "manual",
        "seed": 0,
        "sites": list(train_images),
        "data": ["synthetic"],
        "train_images": train_images,
    }
    (folder / "lineage.json").write_text(json.dumps(lineage))
    # SHA-256 of the bytes b"weights", by `printf weights | sha256sum`.
    return "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c"


def test_a_copy_of_a_training_scan_among_the_test_cases_is_named(tmp_path):
    sites = make_sites(tmp_path)
    rng = np.random.default_rng(0)
    big = Grid((40, 40, 40), np.diag([1.5, 1.5, 1.5, 1.0]))
    field = ndimage.gaussian_filter(rng.normal(size=big.shape), 2.0)[None] * 500
    original = Volume(field.astype(np.float32), big)
    noise = rng.normal(scale=2, size=original.data.shape)
    copy = Volume((original.data + noise).astype(np.float32), big)
    for site, split, image in zip(sites, ("train", "test"), (original, copy), strict=False):
        add_case(
            site.folder,
            task=site.task,
            case_id=f"{site.name}-more",
            patient_id=f"{site.name}-more",
            split=split,
            channels={"ct": image},
        )
    found = list(duplicate_warnings([load_site(site.folder) for site in sites]))

    (warning,) = found
    assert warning.startswith("1 pair(s) of cases, one tested on and one not")
    assert "a/a-more (train) is very like b/b-more (test)" in warning
