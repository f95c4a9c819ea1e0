"""What readers did is on disk before they see anything."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone

from label_app.reading_log import ReadingEvent, ReadingLog
from tests.sites_samples import NOON, make_site

PROPOSED = ReadingEvent(NOON, "proposed", "p" * 64, "m" * 64)


def test_events_come_back_in_order_to_their_reader_and_case_only(tmp_path):
    log = ReadingLog(tmp_path / "ledger.sqlite")
    opened = ReadingEvent(NOON.astimezone(timezone(timedelta(hours=2))), "opened")
    log.note("ann", "case0", opened)
    log.note("ann", "case0", PROPOSED)
    log.note("bob", "case0", opened)
    log.note("ann", "case1", opened)

    events = ReadingLog(tmp_path / "ledger.sqlite").events("ann", "case0")

    assert events == (ReadingEvent(NOON, "opened"), PROPOSED)
    assert events[0].at.tzinfo == UTC


def test_the_log_shares_the_ledgers_file_without_disturbing_it(tmp_path):
    ledger = make_site(tmp_path).ledger()

    ReadingLog(ledger.path).note("ann", "case0", PROPOSED)

    ledger.verify()
    assert ledger.records() == ()
