"""A study's plan on the terminal, and as JSON."""

from __future__ import annotations

import io

from rich.console import Console

from segfed.cli.study_plan import plan_json, plan_table
from segfed.study.events import Schedule, ScheduledModel, StudyChecked
from segfed.study.models import ModelId


def scheduled(seed, action, *, seconds, n_predictions=0, scoring_seconds=0.0):
    return ScheduledModel(
        model=ModelId("pooled", "manual", seed, "all"),
        action=action,
        steps=500,
        seconds=seconds,
        n_predictions=n_predictions,
        scoring_seconds=scoring_seconds,
    )


def checked(*models):
    return StudyChecked(
        schedule=Schedule(models=models, workers=2),
        n_models=len(models),
        n_test_cases=9,
        budget_steps={"pooled": 500},
        warnings=("few cases",),
    )


PARTLY_DONE = checked(
    scheduled(0, "keep", seconds=100.0),
    scheduled(1, "train", seconds=3600.0, n_predictions=9, scoring_seconds=60.0),
    scheduled(2, "leave out", seconds=None, n_predictions=9, scoring_seconds=None),
)


def printed(plan):
    console = Console(file=io.StringIO(), width=120)
    console.print(plan_table(plan))
    return console.file.getvalue()


def test_the_table_counts_models_and_sums_what_is_left():
    text = printed(PARTLY_DONE)

    assert "1 to train, 1 kept, 1 left out" in text
    assert "1 min 40 s" in text  # the kept one took 100 s
    assert "1 h 01 min" in text  # 3600 s and 60 s to score
    assert "In all: 30 min 30 s, 2 models at a time" in text


def test_an_unknown_time_is_said_to_be_unknown():
    models = (scheduled(0, "keep", seconds=100.0), scheduled(1, "train", seconds=None))

    assert printed(checked(*models)).count("?") == 2


def test_times_are_left_out_where_nothing_was_trained_yet():
    text = printed(checked(scheduled(0, "train", seconds=None)))

    assert "?" not in text
    assert "took" not in text
    assert "is known once one of them was trained" in " ".join(text.split())


def test_json_holds_every_model_and_the_sum():
    content = plan_json(PARTLY_DONE)

    assert content["expected_seconds"] == 3660 / 2
    assert content["models"][1] == {
        "regime": "pooled",
        "arm": "manual",
        "seed": 1,
        "train_site": "all",
        "action": "train",
        "steps": 500,
        "seconds": 3600.0,
        "n_predictions": 9,
        "scoring_seconds": 60.0,
    }
    assert content["warnings"] == ["few cases"]
