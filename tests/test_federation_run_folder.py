"""A run on disk."""

from __future__ import annotations

import json

import pytest
from safetensors.numpy import load

from federation.run_folder import (
    best_round,
    finished_rounds,
    is_finished,
    read_model,
    save_round,
    weights_path,
)
from federation.server_optimizer import GlobalModel
from segfed.errors import ConfigError, FederationError
from segfed.protocol import RoundRecord
from tests.federation_samples import arrays, manifest

SITES = ("north", "south")


def record(number, dice=None):
    sites = {site: {"dice_kidney": dice} for site in SITES}
    return RoundRecord(round=number, loss=1.0, validation_dice=dice, sites=sites, seconds=1.0)


def save(folder, *dice):
    """Rounds with these values of Dice."""
    records = [record(number, value) for number, value in enumerate(dice, start=1)]
    for number in range(1, len(records) + 1):
        state = save_round(
            folder, manifest(), records=records[:number], model=GlobalModel(arrays(float(number)))
        )
    return state


@pytest.mark.parametrize(
    ("dice", "expected"),
    [
        ((0.1, 0.3, 0.2), 2),
        ((0.1, 0.3, 0.3), 2),  # ties go to the earlier round
        ((None, 0.0, None), 2),
        ((None, None, None), 3),
    ],
)
def test_the_best_round_has_the_highest_validation_dice(dice, expected):
    assert best_round([record(n, value) for n, value in enumerate(dice, start=1)]) == expected


def with_sites(number, dice, **sites):
    return record(number, dice).model_copy(update={"sites": sites})


def test_a_round_without_a_hard_site_does_not_look_best():
    easy = {"dice_kidney": 0.9, "dice_tumor": 0.7}
    hard = {"dice_kidney": 0.5, "dice_tumor": 0.1}
    rounds = [
        with_sites(1, 0.54, north=easy, south=hard | {"dice_kidney": 0.46}),
        with_sites(2, 0.55, north=easy, south=hard),
        with_sites(3, 0.8, north=easy, south={"loss": 1.0}),
        with_sites(4, 0.65, north=easy, south=hard | {"dice_tumor": None}),
    ]

    assert best_round(rounds) == 2


def test_a_round_that_invents_an_absent_structure_competes_by_the_others():
    # A structure that a site's labels lack has a Dice, of 0, only where the model invents it.
    rounds = [
        with_sites(1, 0.2, north={"dice_kidney": 0.4, "dice_tumor": 0.0}),
        with_sites(2, 0.8, north={"dice_kidney": 0.8, "dice_tumor": None}),
        with_sites(3, 0.35, north={"dice_kidney": 0.7, "dice_tumor": 0.0}),
    ]

    assert best_round(rounds) == 2


def test_rounds_that_nothing_compares_leave_the_earlier_best():
    rounds = [
        with_sites(1, 0.3, north={"dice_kidney": 0.3}),
        with_sites(2, 0.9, south={"dice_kidney": 0.9}),
    ]

    assert best_round(rounds) == 1


def test_the_best_and_the_last_round_are_kept(tmp_path):
    state = save(tmp_path, 0.5, 0.1, 0.2)

    assert (state.rounds_done, state.best_round, state.finished) == (3, 1, True)
    names = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert names == ["round_001.safetensors", "round_003.safetensors"]
    assert load(weights_path(tmp_path, 1).read_bytes())["b.scale"] == 1


def test_the_server_s_memory_is_kept_for_the_last_round_only(tmp_path):
    study = manifest(federation={"algorithm": "fedavgm"})
    for number in (1, 2):
        model = GlobalModel(arrays(float(number)), {"m.b.scale": arrays(-1.0)["b.scale"]})
        records = [record(n, 0.1) for n in range(1, number + 1)]
        save_round(tmp_path, study, records=records, model=model)

    assert [path.name for path in tmp_path.glob("memory_*")] == ["memory_002.safetensors"]
    found = read_model(tmp_path, study, after_round=2)
    assert (found.weights["b.scale"], found.memory["m.b.scale"]) == (2, -1)


@pytest.mark.parametrize(
    ("dice", "finished"),
    [
        ((), False),
        ((0.5, 0.4), False),  # the best is one round back
        ((0.5, 0.4, 0.4), True),
        ((0.5, 0.4, 0.6), False),
        ((None, None, None), False),  # nothing was measured, so nothing failed to improve
    ],
    ids=str,
)
def test_a_run_is_over_after_two_rounds_without_a_better_one(dice, finished):
    study = manifest(rounds=9, federation={"early_stop_rounds": 2})

    rounds = [record(number, value) for number, value in enumerate(dice, start=1)]

    assert is_finished(study, rounds) is finished
    assert not is_finished(manifest(rounds=9), rounds)


def test_the_metrics_have_a_line_for_each_round(tmp_path):
    save(tmp_path, 0.5, 0.1)

    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()

    assert [json.loads(line)["validation_dice"] for line in lines] == [0.5, 0.1]


def test_a_new_folder_has_no_rounds(tmp_path):
    assert finished_rounds(tmp_path / "new", manifest(), sites=SITES) == ()


def test_finished_rounds_are_found_again(tmp_path):
    save(tmp_path, 0.5, 0.1)

    assert finished_rounds(tmp_path, manifest(), sites=SITES) == (record(1, 0.5), record(2, 0.1))


def test_a_round_without_its_state_does_not_count(tmp_path):
    # A process killed between the metrics and the state leaves one line too many.
    save(tmp_path, 0.5)
    with (tmp_path / "metrics.jsonl").open("a") as lines:
        lines.write(record(2, 0.9).model_dump_json() + "\n")

    assert finished_rounds(tmp_path, manifest(), sites=SITES) == (record(1, 0.5),)


def test_the_run_of_another_study_or_of_other_sites_is_refused(tmp_path):
    save(tmp_path, 0.5)

    with pytest.raises(FederationError, match="Choose another folder"):
        finished_rounds(tmp_path, manifest(seed=1), sites=SITES)
    with pytest.raises(FederationError, match=r"north, south; this is .* north, west"):
        finished_rounds(tmp_path, manifest(), sites=("north", "west"))


def test_a_federation_that_a_site_left_goes_on(tmp_path):
    save(tmp_path, 0.5)

    assert finished_rounds(tmp_path, manifest(), sites=None) == (record(1, 0.5),)
    with pytest.raises(FederationError, match="Choose another folder"):
        finished_rounds(tmp_path, manifest(seed=1), sites=None)


def test_a_damaged_state_is_explained(tmp_path):
    save(tmp_path, 0.5)
    (tmp_path / "state.json").write_text("{")

    with pytest.raises(ConfigError, match=r"state\.json cannot be read .*delete it to begin anew"):
        finished_rounds(tmp_path, manifest(), sites=SITES)


def test_rounds_that_the_state_counts_but_nobody_wrote_down_are_missed(tmp_path):
    save(tmp_path, 0.5, 0.1)
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text(metrics.read_text().splitlines(keepends=True)[0])

    with pytest.raises(ConfigError, match="holds 1 rounds; expected 2"):
        finished_rounds(tmp_path, manifest(), sites=SITES)
