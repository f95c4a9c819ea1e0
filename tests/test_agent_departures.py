"""What leaves a site, and what stays in its log."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from segfed.agent import AUDIT_FILE, read_audit
from segfed.agent.departures import Departures
from segfed.errors import CaseError
from segfed.protocol import AgentError, AgentErrorCode, RoundReply, RoundRequest
from tests.agent_samples import NOON

REQUEST = RoundRequest("f" * 64, 2, "train", b"global")


def departures(folder):
    return Departures(folder, lambda: NOON)


def test_a_reply_is_recorded_with_the_size_of_its_content(tmp_path):
    departures(tmp_path).reply(REQUEST, RoundReply(b"local", 4, {}))

    (entry,) = read_audit(tmp_path / AUDIT_FILE)
    assert (entry.kind, entry.round, entry.time) == ("train", 2, NOON)
    assert (entry.recipient, entry.server_head) == (None, None)
    # {"metrics": {}, "n_cases": 4}, a line's end and the weights.
    assert entry.bytes == 29 + 1 + 5


def test_a_reply_leaves_with_the_head_of_the_log_and_nothing_else_in_its_place(tmp_path):
    request = replace(REQUEST, server_head="a" * 64)
    gate = Departures(tmp_path, lambda: NOON, "study beans")

    sent = [gate.reply(request, RoundReply(b"x", 4, {}, audit_head="Doe")) for _ in range(2)]

    entries = read_audit(tmp_path / AUDIT_FILE)
    assert [reply.audit_head for reply in sent] == [entry.hash for entry in entries]
    assert {entry.server_head for entry in entries} == {"a" * 64}
    assert {entry.recipient for entry in entries} == {"study beans"}


@pytest.mark.parametrize(
    ("error", "code", "has_traceback"),
    [
        (CaseError("case of Jane Doe"), AgentErrorCode.DATA_UNUSABLE, False),
        (ZeroDivisionError("Jane Doe"), AgentErrorCode.INTERNAL, True),
    ],
)
def test_a_failure_leaves_as_its_code_and_is_explained_here(
    tmp_path, caplog, error, code, has_traceback
):
    failure = departures(tmp_path).failure(REQUEST, error)

    assert failure.code == code
    assert "Jane" not in str(failure)
    (line,) = caplog.records
    assert (line.levelno, "Jane Doe" in line.message) == (logging.ERROR, True)
    assert (line.exc_info is not None) == has_traceback
    (entry,) = read_audit(tmp_path / AUDIT_FILE)
    assert entry.kind == f"error {int(code)}"


def test_what_cannot_be_recorded_must_not_leave(tmp_path):
    (tmp_path / AUDIT_FILE).mkdir()

    with pytest.raises(AgentError) as failed:
        departures(tmp_path).reply(REQUEST, RoundReply(b"local", 4, {}))

    assert failed.value.code == AgentErrorCode.INTERNAL
