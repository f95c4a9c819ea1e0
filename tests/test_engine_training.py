"""Training learns, repeats itself, goes on across rounds, and stops with a reason."""

from __future__ import annotations

import math
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from segfed.engine import (
    LocalTrainer,
    build_network,
    predict_scores,
    train_local,
    validation_dice,
)
from segfed.engine.batches import training_batch
from segfed.engine.cache import label_positions
from segfed.errors import OutOfMemoryError, TrainingError, WeightsError
from segfed.learning_rate import schedule
from tests.engine_samples import SHAPE, sample_cases, sample_plan

CPU = torch.device("cpu")


def trainer(*, cases=None, seed=0, total_steps=4, **plan_changes) -> LocalTrainer:
    plan = sample_plan(**plan_changes)
    return LocalTrainer(
        plan,
        cases or sample_cases(2),
        network=build_network(plan, seed=0),
        seed=seed,
        total_steps=total_steps,
        device=CPU,
    )


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=1e-6)


def test_it_learns_to_find_an_ellipsoid():
    plan = sample_plan()
    cases = sample_cases(6)
    network = build_network(plan, seed=0)
    start = LocalTrainer(plan, cases[:4], network=network, seed=0, total_steps=40, device=CPU)

    first = start.run(10)
    last = [start.run(10) for _ in range(3)][-1]

    assert last.loss < 0.7 * first.loss
    assert validation_dice(network, plan, cases[4:], device=CPU)["pebble"] > 0.8


def test_deep_supervision_trains_too():
    run = trainer(
        total_steps=12, features=(4, 8, 8), deep_supervision=True, patch_voxels=(16, 24, 16)
    )

    first, second = run.run(6), run.run(6)

    assert second.loss < first.loss


@pytest.mark.parametrize("changes", [{"residual": True}, {"group_norm": True}])
def test_residual_levels_and_group_norm_train_too(changes):
    run = trainer(total_steps=12, **changes)

    first, second = run.run(6), run.run(6)

    assert second.loss < first.loss


def test_thick_slices_train_with_strides_of_their_own():
    run = trainer(
        total_steps=12,
        spacing_mm=(1, 1, 4),
        features=(4, 8, 8, 8),
        strides=((2, 2, 1), (2, 2, 2), (2, 2, 1)),
        deep_supervision=True,
        patch_voxels=(16, 24, 6),
    )

    first, second = run.run(6), run.run(6)

    assert second.loss < first.loss


def test_a_seed_decides_everything():
    first, second, other = trainer(), trainer(), trainer(seed=1)
    for run in (first, second, other):
        run.run(3)

    assert_same(first.weights(), second.weights())
    assert not torch.equal(first.weights()["heads.0.bias"], other.weights()["heads.0.bias"])


def test_rounds_add_up_to_one_long_stretch():
    # What a federation of one site would do: weights out, the same weights in.
    whole, rounds = trainer(), trainer()
    whole.run(4)
    for _ in range(2):
        rounds.load_weights(rounds.weights())
        rounds.run(2)

    assert rounds.steps_done == 4
    assert_same(whole.weights(), rounds.weights())


def test_a_resumed_run_ends_where_an_unbroken_one_does():
    unbroken, killed, resumed = trainer(), trainer(), trainer()
    unbroken.run(4)
    killed.run(2)

    resumed.resume(killed.progress())
    resumed.run(2)

    assert_same(unbroken.weights(), resumed.weights())


def test_progress_of_another_run_is_refused():
    stopped = trainer(seed=7)
    stopped.run(1)

    with pytest.raises(TrainingError, match=r"\[1, 4, 7\].*4 steps and seed 0"):
        trainer().resume(stopped.progress())


def test_weights_for_another_network_are_refused_and_change_nothing():
    run = trainer()
    before = run.weights()

    with pytest.raises(WeightsError, match="do not fit"):
        run.load_weights(build_network(sample_plan(features=(4, 8)), seed=0).state_dict())

    assert_same(run.weights(), before)


def test_a_loss_that_is_no_number_stops_the_run():
    case = sample_cases(1)[0]
    broken = replace(case, image=np.full_like(case.image, np.nan))

    with pytest.raises(TrainingError, match=r"loss became nan in step 1 of 4.*learning_rate"):
        trainer(cases=[broken]).run(1)


def small_memory(run: LocalTrainer, *, n_patches: int) -> None:
    """Let the trainer's device hold so many patches at once."""
    compute = run.network.at_scales

    def at_scales(image: torch.Tensor) -> list[torch.Tensor]:
        if len(image) > n_patches:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. GPU 0 has")
        return compute(image)

    run.network.at_scales = at_scales


def test_a_batch_that_does_not_fit_is_taken_in_parts_with_the_same_gradients(caplog, monkeypatch):
    # Four patches that are all alike: Dice of each part is that of the batch.
    whole, parts = trainer(batch_size=4), trainer(batch_size=4)

    def alike(*arguments, **options):
        images, labels = training_batch(*arguments, **options)
        return images[:1].repeat(4, 1, 1, 1, 1), labels[:1].repeat(4, 1, 1, 1)

    monkeypatch.setattr("segfed.engine.training.training_batch", alike)
    small_memory(parts, n_patches=1)

    first, second = whole.run(1), parts.run(1)

    assert second.loss == pytest.approx(first.loss, rel=1e-5)
    for weight, same in zip(whole.network.parameters(), parts.network.parameters(), strict=True):
        # Each part is rounded by itself, to 8 bits where the processor computes in bfloat16
        torch.testing.assert_close(same.grad, weight.grad, rtol=1e-2, atol=1e-4)
    assert "over 2 parts" in caplog.text
    assert "over 4 parts" in caplog.text


def test_parts_that_fit_are_kept_for_later_steps(caplog):
    run = trainer(batch_size=2)
    small_memory(run, n_patches=1)

    run.run(3)

    assert caplog.text.count("does not fit") == 1


def test_a_device_that_cannot_hold_one_patch_is_answered_with_the_setting():
    run = trainer()
    small_memory(run, n_patches=0)

    with pytest.raises(OutOfMemoryError, match=r"CUDA out of memory.*Lower patch_voxels"):
        run.run(1)


def test_every_step_is_reported():
    seen: list[tuple[int, float]] = []

    summary = trainer().run(3, on_step=lambda step, loss: seen.append((step, loss)))

    assert [step for step, _ in seen] == [1, 2, 3]
    assert summary.loss == pytest.approx(np.mean([loss for _, loss in seen]))
    assert (summary.steps, summary.n_cases) == (3, 2)


@pytest.mark.parametrize(("cases", "total_steps"), [([], 5), (sample_cases(1), 0)])
def test_nothing_to_do_is_refused(cases, total_steps):
    plan = sample_plan()

    with pytest.raises(TrainingError, match="at least one of each"):
        LocalTrainer(
            plan,
            cases,
            network=build_network(plan, seed=0),
            seed=0,
            total_steps=total_steps,
            device=CPU,
        )


def test_the_learning_rate_rises_briefly_and_falls_to_almost_nothing():
    rates = [schedule(step, 100) for step in range(100)]

    assert rates[9] == 1  # a tenth of the steps is warm-up
    assert rates[0] == pytest.approx(0.1)
    assert rates[55] == pytest.approx(0.5)  # half-way down the cosine: 10 + 90 / 2
    assert rates == sorted(rates[:10]) + sorted(rates[10:], reverse=True)
    assert 0 < schedule(100, 100) <= rates[-1] < 0.01


def test_the_best_weights_by_validation_are_kept(monkeypatch):
    # Dice after each of three stretches; the second is the best.
    scores = iter([0.4, 0.9, 0.6])
    monkeypatch.setattr(
        "segfed.engine.local_training.validation_dice", lambda *_, **__: {"pebble": next(scores)}
    )
    plan, cases = sample_plan(), sample_cases(2)
    after_two = trainer(cases=cases, total_steps=6)
    after_two.run(4)

    best, summary = train_local(
        plan,
        cases,
        validation=cases,
        network=build_network(plan, seed=0),
        seed=0,
        total_steps=6,
        n_validations=3,
        device=CPU,
    )

    assert_same(best, after_two.weights())
    assert (summary.steps, summary.best_step) == (6, 4)


@pytest.mark.parametrize(
    ("dice", "kept_after", "best_step"),
    [([0.7, 0.7], 2, 2), ([math.nan, math.nan], 4, None)],
)
def test_the_earlier_of_two_equals_is_kept_and_the_last_where_none_was_scored(
    monkeypatch, dice, kept_after, best_step
):
    scores = iter(dice)
    monkeypatch.setattr(
        "segfed.engine.local_training.validation_dice", lambda *_, **__: {"pebble": next(scores)}
    )
    plan, cases = sample_plan(), sample_cases(2)
    expected = trainer(cases=cases, total_steps=4)
    expected.run(kept_after)

    best, summary = train_local(
        plan,
        cases,
        validation=cases,
        network=build_network(plan, seed=0),
        seed=0,
        total_steps=4,
        n_validations=2,
        device=CPU,
    )

    assert_same(best, expected.weights())
    assert summary.best_step == best_step


def test_a_structure_that_no_case_holds_has_no_dice():
    plan = sample_plan(labels={"shell": 1, "core": 2, "cyst": 3}, structures={"cyst": [3]})
    network = build_network(plan, seed=0)
    with torch.no_grad():
        network.heads[0].bias[3] = -1e3

    assert math.isnan(validation_dice(network, plan, sample_cases(1), device=CPU)["cyst"])


def distance_after(steps, **options):
    """How far the weights are from where they were, after some steps."""
    run = trainer(total_steps=20)
    start = run.weights()
    run.run(steps, **options)
    return math.sqrt(sum(float((v - start[k]).square().sum()) for k, v in run.weights().items()))


def test_a_proximal_site_takes_the_same_first_step_and_drifts_less():
    assert distance_after(1, proximal_mu=10.0) == distance_after(1)
    assert distance_after(8, proximal_mu=10.0) < 0.8 * distance_after(8)


def test_a_correction_moves_the_first_step_by_its_rate():
    # The first of 20 steps is taken at half of the full rate of 0.01: warm-up is 2 steps.
    plain, corrected = trainer(total_steps=20), trainer(total_steps=20)
    ones = {name: torch.ones_like(value) for name, value in plain.weights().items()}

    plain.run(1)
    corrected.run(1, correction=ones)

    assert_same({k: v - 0.005 for k, v in plain.weights().items()}, corrected.weights())


def test_no_step_begins_after_the_seconds_of_a_round():
    # The clock is read before the first step, then before each of the others, then at the end.
    times = iter([0.0, 1.0, 2.0, 3.0, 3.5])

    summary = trainer().run(4, seconds=3.0, clock=lambda: next(times))

    assert (summary.steps, summary.seconds) == (3, 3.5)


def test_a_site_of_any_slowness_takes_one_step():
    times = iter([0.0, 100.0, 200.0])

    assert trainer().run(4, seconds=1.0, clock=lambda: next(times)).steps == 1


def test_nothing_is_read_ahead_any_more_once_training_stops():
    case = sample_cases(1)[0]
    broken = replace(case, image=np.full_like(case.image, np.nan))
    before = threading.active_count()

    with pytest.raises(TrainingError, match="loss became nan"):
        trainer(cases=[broken]).run(3)

    assert threading.active_count() == before


def test_a_case_that_cannot_be_read_stops_the_run():
    case = replace(sample_cases(1)[0], positions=np.full((1, 4), "lost"))

    with pytest.raises(TypeError):
        trainer(cases=[case]).run(1)


def changed_case(**arrays):
    """A case with another image, or another label and its positions."""
    case = sample_cases(1)[0]
    if "label" in arrays:
        arrays["positions"] = label_positions(arrays["label"])
    return replace(case, **arrays)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(sample_cases(1, shape=(5, 7, 3))[0], id="smaller than the patch"),
        pytest.param(sample_cases(1, shape=(20, 24, 1))[0], id="a single slice"),
        pytest.param(changed_case(image=np.full((1, *SHAPE), 3.5, np.float32)), id="constant"),
        pytest.param(changed_case(label=np.zeros(SHAPE, np.uint8)), id="nothing labelled"),
        pytest.param(changed_case(label=np.ones(SHAPE, np.uint8)), id="without its core"),
    ],
)
def test_a_site_whose_only_case_is_odd_trains_all_the_same(case):
    run = trainer(cases=[case])

    summary = run.run(4)

    assert math.isfinite(summary.loss)
    assert all(torch.isfinite(value).all() for value in run.weights().values())


def test_a_structure_that_no_case_of_a_site_holds_is_not_invented():
    label = np.minimum(sample_cases(1)[0].label, 1)
    run = trainer(cases=[changed_case(label=label)], total_steps=30)

    run.run(30)

    scores = predict_scores(
        [run.network], run.plan, torch.from_numpy(run.cases[0].image), device=CPU
    )
    assert not (scores.argmax(dim=0) == 2).any()


def test_autotuning_changes_nothing_on_a_cpu():
    as_it_is, tuned = trainer(), trainer(autotune=True)
    as_it_is.run(3)
    tuned.run(3)

    assert_same(as_it_is.weights(), tuned.weights())


def test_the_network_compiles_as_one_program_with_the_same_gradients():
    plan = sample_plan(features=(4, 8, 8), deep_supervision=True, patch_voxels=(16, 24, 16))
    network = build_network(plan, seed=0)
    image = torch.randn(2, 1, 16, 24, 16, generator=torch.Generator().manual_seed(0))

    def gradients(at_scales):
        network.zero_grad()
        sum(scale.square().mean() for scale in at_scales(image)).backward()
        return {name: value.grad.clone() for name, value in network.named_parameters()}

    compiled = gradients(torch.compile(network.at_scales, backend="eager", fullgraph=True))

    torch.testing.assert_close(compiled, gradients(network.at_scales), atol=1e-4, rtol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_a_gpu_learns_what_a_cpu_learns_and_says_how_much_memory_it_took():
    plan, cases, device = sample_plan(), sample_cases(6), torch.device("cuda")
    network = build_network(plan, seed=0)
    run = LocalTrainer(plan, cases[:4], network=network, seed=0, total_steps=40, device=device)

    summary = run.run(40)

    assert validation_dice(network, plan, cases[4:], device=device)["pebble"] > 0.8
    assert 0 < summary.peak_bytes < 1e9


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_autotuning_on_a_gpu_learns_as_much():
    plan, cases, device = sample_plan(autotune=True), sample_cases(6), torch.device("cuda")
    network = build_network(plan, seed=0)
    run = LocalTrainer(plan, cases[:4], network=network, seed=0, total_steps=40, device=device)

    run.run(40)

    assert validation_dice(network, plan, cases[4:], device=device)["pebble"] > 0.8
    assert torch.backends.cudnn.deterministic
