"""How a study goes, in a table and as JSON."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from segfed.cli.progress import StudyProgress
from segfed.cli.status_table import follow_line, status_json, status_table
from segfed.protocol import RoundRecord


def record(number, **changes):
    """A round in which two sites took part."""
    north = {
        "dice_bean": 0.8,
        "dice_core": 0.6,
        "seconds": 12.0,
        "bytes_up": 2e6,
        "bytes_down": 4e6,
    }
    fields = {
        "round": number,
        "loss": 0.5,
        "validation_dice": 0.7,
        "sites": {"north": north, "south": {"bytes_up": None, "bytes_down": 4e6}},
        "seconds": 30.0,
    }
    return RoundRecord.model_validate(fields | changes)


def progress(state="running", **changes):
    """Two of four rounds are done."""
    fields = {
        "study": "beans",
        "state": state,
        "rounds": 4,
        "records": (record(1), record(2, dropped={"south": "train: no reply"})),
        "sites": {"north": 1, "south": 2},
        "answered": (),
        "best_round": 1,
        "problem": "",
    }
    return StudyProgress(**(fields | changes))


def shown(*arguments, **keywords):
    """The table's rows by their first word, and its title."""
    console = Console(width=200)
    with console.capture() as captured:
        console.print(status_table(*arguments, **keywords))
    lines = [line.strip() for line in captured.get().splitlines()]
    return {line.split()[0]: " ".join(line.split()) for line in lines if line}


def test_the_title_says_what_is_spent_of_the_privacy_budget():
    spending = tuple(
        record(n, sites={"north": {"epsilon": 2.0 * n}, "south": {"epsilon": 1.5 * n}})
        for n in (1, 2)
    )

    title = status_table(progress(records=spending), online=None).title
    assert "epsilon 4 spent" in title
    assert "epsilon" not in status_table(progress(), online=None).title


def test_the_title_says_how_far_the_study_is():
    # Two rounds of 30 s are left.
    title = shown(progress(), online=None)["beans:"]

    assert title == "beans: running, 2 of 4 rounds done, best round 1, about 60 s left"


def test_a_site_s_row_holds_dice_seconds_and_traffic_of_all_rounds():
    # Dice: mean of 0.8 and 0.6; traffic: twice 4 MB down, twice 2 MB up.
    assert shown(progress(answered=("north",)), online={"north": True})["north"] == (
        "north online 0.700 12.0 8.0 4.0 answered"
    )


def test_who_answered_is_unknown_where_no_single_update_reaches_the_server():
    masked = progress(answered=None)

    assert shown(masked, online={"north": True})["north"].endswith("unknown under masks")
    assert status_json(masked, online=None)["sites"]["north"]["answered"] is None


def test_who_was_late_is_named_with_the_reason():
    assert "away" in shown(progress(), online={"south": False})["south"]
    assert "round 2: train: no reply" in shown(progress(), online=None)["south"]


def test_why_a_run_stopped_is_told():
    table = shown(progress("stopped", problem="Too few sites."), online=None)

    assert table["Too"] == "Too few sites."
    assert "left" not in table["beans:"]


def test_a_study_before_its_first_round_is_shown():
    table = shown(progress(records=(), best_round=None), online={})

    assert table["north"] == "north unknown 0.0 0.0 at work, or late"
    assert table["beans:"] == "beans: running, 0 of 4 rounds done"


def test_a_program_reads_the_same():
    content = json.loads(json.dumps(status_json(progress(), online={"north": True})))

    assert (content["state"], content["rounds_done"], content["seconds_left"]) == ("running", 2, 60)
    assert content["sites"]["north"]["online"] is True
    assert content["sites"]["south"]["online"] is None
    assert content["sites"]["south"]["dropped"] == "train: no reply"
    assert content["sites"]["south"]["bytes_down"] == 8e6


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "Round 1 of 4: validation Dice 0.700, 30.0 s"),
        (
            {"validation_dice": None, "dropped": {"south": "train: no reply"}},
            "Round 1 of 4: validation Dice unknown, 30.0 s; south: train: no reply",
        ),
    ],
)
def test_a_finished_round_is_one_line(changes, line):
    assert follow_line(record(1, **changes), rounds=4) == line
