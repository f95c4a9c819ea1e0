"""A site's own training: on its approved labels, from what it serves, and never for the worse."""

from __future__ import annotations

import fcntl

import pytest
import torch

import segfed.study.resumable
from segfed.engine import Lineage, build_network, load_bundle, make_plan, write_bundle
from segfed.errors import CaseError, ConfigError, TrainingError
from segfed.sites import NewAssignment, Site, load_site, submit_label
from segfed.study import current_model, published_models
from segfed.study.fine_tune import WORK_FOLDER, fine_tune
from segfed.study.own_labels import Choice, labels_to_train_on
from segfed.study.resumable import Budget
from tests.study_samples import PLAN, approve, block, make_site, publish_start

CPU = torch.device("cpu")
QUICK = Choice(budget=Budget(steps=2, seconds=None))


def run(site: Site, choice: Choice = QUICK, **options):
    options = {"publish_at_site": True, "on_state": lambda _: None} | options
    return fine_tune(site, choice, device=CPU, **options)


@pytest.fixture
def site(tmp_path) -> Site:
    """Cases 0 and 1 are for training, 2 for validation, 3 and 4 for testing."""
    return make_site(tmp_path, "a", seed=1)


@pytest.fixture
def dice(monkeypatch):
    """Sets what every validation will find, in order."""

    def will_be(*values: float) -> None:
        found = iter(values)
        monkeypatch.setattr(
            segfed.study.resumable, "validation_dice", lambda *_, **__: {"kidney": next(found)}
        )

    return will_be


def test_the_new_model_knows_all_that_it_and_its_parent_saw(site, tmp_path, dice):
    approve(site, 0, 2, 3)
    parent = publish_start(site, tmp_path)
    dice(0.1, 0.2, 0.3)

    result = run(site)

    model = load_bundle(current_model(site))
    assert model.sha256 == result.sha256
    assert model.lineage.parent == result.parent == parent
    # Trained on case 0 and chosen by case 2; case 1 has no approved label, 3 and 4 are for testing.
    assert model.lineage.train_images == {
        "elsewhere": ("f" * 64,),
        "a": (site.case("a-0").image_sha256, site.case("a-2").image_sha256),
    }
    assert model.lineage.sites == ("elsewhere", "a")
    assert model.lineage.data == ("real", "synthetic")
    assert (result.n_train, result.n_validation, result.n_of_origin) == (1, 1, {"manual": 1})
    assert "0.100 before, 0.300 after" in (current_model(site) / "model_card.md").read_text()
    assert not (site.folder / WORK_FOLDER).exists()


def test_a_model_that_validates_no_better_is_not_published(site, tmp_path, dice):
    approve(site, 0, 2)
    publish_start(site, tmp_path)
    served = current_model(site)
    dice(0.5, 0.4, 0.5)

    result = run(site, out=tmp_path / "out")

    assert (result.is_better, result.sha256, result.published) == (False, None, None)
    assert current_model(site) == served
    assert not (tmp_path / "out").exists()


def test_without_validation_labels_the_model_is_taken_as_it_is(site, tmp_path):
    approve(site, 0)
    publish_start(site, tmp_path)

    result = run(site)

    assert result.is_better
    assert (result.state.start_dice, result.state.best_dice, result.n_validation) == (None, None, 0)
    assert current_model(site) == result.published


def test_a_site_without_a_model_trains_anew_by_the_tasks_plan(site, monkeypatch):
    monkeypatch.setattr("segfed.study.fine_tune.make_plan", lambda task: make_plan(task, PLAN))
    approve(site, 0, 1)

    result = run(site)

    assert result.parent is None
    assert load_bundle(current_model(site)).lineage.sites == ("a",)


def test_a_model_that_learned_already_learns_at_a_lower_rate(site, tmp_path, monkeypatch):
    approve(site, 0)
    publish_start(site, tmp_path)
    rates = []
    train = segfed.study.resumable.LocalTrainer

    def noting(plan, *args, **options):
        rates.append(plan.learning_rate)
        return train(plan, *args, **options)

    monkeypatch.setattr(segfed.study.resumable, "LocalTrainer", noting)

    run(site)

    full = make_plan(site.task, PLAN).learning_rate
    assert rates == [pytest.approx(full / 10)]
    assert load_bundle(current_model(site)).plan.learning_rate == full


def test_labels_of_both_arms_make_a_mixed_model(site, tmp_path):
    approve(site, 0)
    publish_start(site, tmp_path, arm="assisted")

    run(site, Choice(arm="manual", budget=QUICK.budget))

    assert load_bundle(current_model(site)).lineage.arm == "mixed"


def test_another_start_can_be_named(site, tmp_path):
    approve(site, 0)
    other, start = publish_start(site, tmp_path, seed=1), current_model(site)
    publish_start(site, tmp_path, seed=2)

    assert run(site, start=start).parent == other


def test_nothing_is_trained_on_labels_that_nobody_approved(site):
    with pytest.raises(TrainingError, match="none of them has an approved label"):
        labels_to_train_on(site, QUICK)

    labels = labels_to_train_on(site, Choice(include_submitted=True))

    assert [item.case.case_id for item in labels.train] == ["a-0", "a-1"]
    assert [item.case.case_id for item in labels.validation] == ["a-2"]


def test_a_training_on_assisted_labels_is_measured_on_hand_labels(site):
    for number in (0, 1):
        submit_label(
            site,
            case_id=f"a-{number}",
            label=block(2),
            origin="ai_accepted",
            reader="ann",
            status="approved",
        )
    approve(site, 2)

    labels = labels_to_train_on(site, Choice(arm="assisted"))

    assert {item.record.arm for item in labels.train} == {"assisted"}
    # Nobody gets a proposal for a validation case: it never has an assisted label.
    assert [item.record.arm for item in labels.validation] == ["manual"]


def test_a_case_whose_reader_is_still_to_get_a_proposal_is_not_trained_on(site):
    approve(site, 0, 1)
    site.ledger().assign_all(
        [
            NewAssignment("ann", "a-0", "manual"),
            NewAssignment("ann", "a-0", "assisted", period=2, washout_days=28),
        ]
    )

    assert [item.case.case_id for item in labels_to_train_on(site, QUICK).train] == ["a-1"]

    site.ledger().assign("bob", "a-1", "assisted")
    with pytest.raises(TrainingError, match=r"2 cases to train on, but a reader is still to get"):
        labels_to_train_on(site, QUICK)


def test_an_external_site_never_trains(tmp_path):
    with pytest.raises(ConfigError, match="x is external"):
        labels_to_train_on(make_site(tmp_path, "x", seed=3, external=True), QUICK)


def test_a_damaged_image_is_found_before_the_first_step(site, tmp_path):
    approve(site, 0, 1)
    publish_start(site, tmp_path)
    site.case("a-1").channels["ct"].write_bytes(b"no image")

    with pytest.raises(CaseError, match="a-1: the image has the hash"):
        run(site, on_state=lambda _: pytest.fail("a step was taken"))


def test_a_model_of_another_task_is_refused(site, tmp_path):
    approve(site, 0)
    plan = make_plan(site.task, PLAN)
    plan = plan.model_copy(update={"channels": ("mr",)})
    lineage = Lineage(study="s", arm="manual", seed=0, sites=(), data=(), train_images={})
    state = build_network(plan, seed=0).state_dict()
    write_bundle(tmp_path / "other", plan=plan, state=state, lineage=lineage, card="")

    with pytest.raises(ConfigError, match="with channels"):
        run(site, start=tmp_path / "other")


def test_one_training_at_a_time(site):
    approve(site, 0)
    (site.folder / "cache").mkdir()
    with (site.folder / "cache" / "fine_tune.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        with pytest.raises(TrainingError, match="Another training of site a is running"):
            run(site)


def test_a_model_that_was_published_meanwhile_stays(site, tmp_path):
    approve(site, 0)
    publish_start(site, tmp_path)

    with pytest.raises(TrainingError, match="another model was published meanwhile"):
        run(site, on_state=lambda _: publish_start(site, tmp_path, seed=7))

    assert load_bundle(current_model(load_site(site.folder))).lineage.seed == 7


def test_a_training_that_was_killed_goes_on(site, tmp_path):
    def kill(state):
        if state.step == 2:
            raise KeyboardInterrupt

    def note(state):
        steps.append(state.step)

    steps: list[int] = []
    approve(site, 0, 2)
    publish_start(site, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(site, on_state=kill)

    run(site, on_state=note)

    # Validated, and so saved, after each of the two steps.
    assert steps == [2]


CLICKS = Choice(budget=QUICK.budget, clicks="tumor")


def test_a_model_that_takes_clicks_comes_beside_the_one_that_proposes(site, tmp_path):
    approve(site, 0)
    parent = publish_start(site, tmp_path)

    result = run(site, CLICKS)

    assert load_bundle(current_model(site)).sha256 == parent
    model = load_bundle(current_model(site, clicks=True))
    assert result.published == current_model(site, clicks=True)
    assert result.published.parent.name == "kidney_tumor_clicks"
    assert model.plan.click_target == ("tumor", 2)
    assert model.lineage.parent == parent
    assert model.lineage.saw("f" * 64)
    assert model.lineage.saw(site.case("a-0").image_sha256)
    assert {found.sha256 for found in published_models(site)} == {parent, model.sha256}
    assert "corrects the tumor" in (result.published / "model_card.md").read_text()


def test_clicks_are_worth_publishing_only_if_they_bring_more_than_the_start(site, tmp_path, dice):
    approve(site, 0, 2)
    publish_start(site, tmp_path)
    dice(0.5, 0.4, 0.5)

    assert not run(site, CLICKS).is_better
    assert current_model(site, clicks=True) is None


def test_a_model_that_takes_clicks_goes_on_learning_if_it_is_named(site, tmp_path):
    approve(site, 0)
    publish_start(site, tmp_path)
    first = run(site, CLICKS)

    assert run(site, CLICKS, start=first.published).parent == first.sha256
    assert run(site, CLICKS).parent != first.sha256
    for other in (QUICK, Choice(budget=QUICK.budget, clicks="cyst")):
        with pytest.raises(ConfigError, match="takes clicks on 'tumor', expected one"):
            run(site, other, start=first.published)


def test_clicks_without_any_model_begin_with_random_weights(site, monkeypatch):
    monkeypatch.setattr("segfed.study.fine_tune.make_plan", lambda task: make_plan(task, PLAN))
    approve(site, 0)

    assert run(site, CLICKS).parent is None
    assert current_model(site) is None
    assert load_bundle(current_model(site, clicks=True)).plan.click_label == "tumor"


def test_clicks_on_an_unknown_label_are_refused_before_the_first_step(site, tmp_path):
    approve(site, 0)
    publish_start(site, tmp_path)

    with pytest.raises(ConfigError, match="'lesion' must be one of kidney, tumor, cyst"):
        run(site, Choice(clicks="lesion"), on_state=lambda _: pytest.fail("a step was taken"))


def test_warm_up_cases_can_be_trained_on(tmp_path):
    site = make_site(tmp_path, "a", seed=1, splits=("warmup", "train", "validation"))

    labels = labels_to_train_on(site, Choice(split="warmup", include_submitted=True))

    assert [item.case.case_id for item in labels.train] == ["a-0"]
    assert [item.case.case_id for item in labels.validation] == ["a-2"]
