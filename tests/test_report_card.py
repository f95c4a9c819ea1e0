"""Every item of every sheet is filled from records, or says that it is not recorded."""

from __future__ import annotations

from html import unescape

import pytest

from segfed.report.build import build_report
from segfed.report.card import SHEETS, Item, Sheet, build_card, fill_sheet, read_sheet
from segfed.report.facts import FACTS
from segfed.report.page import render_card
from segfed.report.write import CARD_FILE, write_report
from segfed.study.settings import CardSettings
from tests.report_samples import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(
        tmp_path_factory.mktemp("run"),
        dice=lambda model, *_: 0.0 if model.regime == "untrained" else 0.7,
        cases={"a": 2, "b": 4},
        external={"x": 2},
        warnings=("a <b>warning</b>",),
    )


@pytest.fixture(scope="module")
def report(run):
    return build_report(run)


def sheet_of(*items):
    return Sheet(title="t", source="s", items=items)


def filled(item, *, stated=None, **known):
    return fill_sheet(sheet_of(item), known, stated=stated or {})["items"][0]


def test_an_item_whose_facts_are_all_known_is_recorded():
    found = filled(Item(asks="?", facts=("one", "two")), one=["1."], two=["2.", "3."])

    assert found["status"] == "recorded"
    assert found["recorded"] == ["1.", "2.", "3."]
    assert found["not_recorded"] == []


def test_an_item_that_lacks_a_fact_is_filled_in_part_and_names_it():
    found = filled(Item(asks="?", facts=("one", "second_fact")), one=["1."], second_fact=[])

    assert found["status"] == "in part"
    assert found["not_recorded"] == ["second fact"]


def test_what_no_record_can_tell_stays_open_beside_the_facts():
    found = filled(Item(asks="?", facts=("one",), by_hand="age and sex"), one=["1."])

    assert (found["status"], found["not_recorded"]) == ("in part", ["age and sex"])


def test_an_item_without_any_known_fact_is_missing():
    assert filled(Item(asks="?", facts=("one",)), one=[])["status"] == "missing"
    assert filled(Item(asks="?", by_hand="funding"))["status"] == "missing"


def test_what_a_person_states_is_kept_apart_from_the_records():
    item = Item(asks="?", facts=("one",), by_hand="age and sex", entry="patients")

    found = filled(item, stated={"patients": " Adults. "}, one=["1."])

    assert (found["recorded"], found["stated_by_hand"]) == (["1."], "Adults.")
    assert (found["status"], found["not_recorded"]) == ("recorded", [])


def test_an_item_that_a_person_alone_fills_is_not_called_recorded():
    item = Item(asks="?", by_hand="funding", entry="funding")

    assert filled(item, stated={"funding": "None."})["status"] == "by hand"


def test_every_entry_of_the_card_is_asked_for_and_every_asked_for_entry_exists():
    entries = {item.entry for name in SHEETS for item in read_sheet(name).items if item.entry}

    assert entries == set(CardSettings.model_fields)


def test_the_page_marks_a_persons_words_as_such(report):
    settings = {**report["settings"], "card": {"intended_use": "For <b>research</b>."}}
    stated = {**report, "settings": settings}

    page = render_card({**stated, "model_card": build_card(stated)})

    marked = "<b>Stated by hand</b> For &lt;b&gt;research&lt;/b&gt;."
    # In the card, and in the item of CLAIM that asks the same.
    assert page.count(marked) == 2


def test_the_sheets_have_all_items_of_claim_and_of_the_ten_principles():
    numbers = {name: [item.number for item in read_sheet(name).items] for name in SHEETS}

    assert numbers["claim_2024"] == [str(number) for number in range(1, 45)]
    assert numbers["gmlp_2021"] == [str(number) for number in range(1, 11)]


def test_sheets_and_facts_fit_together():
    items = [item for name in SHEETS for item in read_sheet(name).items]

    assert {fact for item in items for fact in item.facts} == set(FACTS)
    assert [item.asks for item in items if not item.facts and not item.by_hand] == []


def test_the_card_follows_from_the_report_alone(report):
    assert build_card(report) == report["model_card"]
    assert report["model_card"][0]["title"] == "Model card"
    for sheet in report["model_card"]:
        assert sum(sheet["counts"].values()) == len(sheet["items"])


def test_intended_use_demographics_and_funding_are_never_made_up(report):
    items = {
        item["asks"]: item["status"] for sheet in report["model_card"] for item in sheet["items"]
    }

    assert items["Intended use, users and patients"] == "missing"
    assert items["Demographic and clinical characteristics by partition"] == "missing"
    assert items["Funding and the funders' role"] == "missing"


def test_the_page_prints_every_sentence_and_every_gap(report):
    page = unescape(render_card(report))

    for sheet in report["model_card"]:
        for item in sheet["items"]:
            assert all(f"<p>{sentence}</p>" in page for sentence in item["recorded"])
            assert all(gap in page for gap in item["not_recorded"])
    n_open = sum(bool(i["not_recorded"]) for s in report["model_card"] for i in s["items"])
    assert page.count("Not recorded: fill in by hand</b>") == n_open


def test_the_page_loads_nothing_and_escapes_what_it_prints(report):
    page = render_card(report)

    assert "a &lt;b&gt;warning&lt;/b&gt;" in page
    assert "<b>warning" not in page
    assert "http" not in page
    assert "<script" not in page


def test_no_case_no_reader_and_no_folder_is_named(report, run):
    page = render_card(report)

    for name in ("a_00", "b_03", "x_01", "a-reader", str(run.parent)):
        assert name not in page


def test_the_card_lies_beside_the_report(run, report):
    write_report(run)

    assert (run / CARD_FILE).read_text(encoding="utf-8") == render_card(report)
