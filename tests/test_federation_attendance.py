"""Who is asked and waited for, on a grid whose sites answer when a test lets them."""

from __future__ import annotations

import pytest
from flwr.app import Error, Message

from federation.attendance import Attendance
from federation.messages import request_message, write_arrays
from segfed.protocol import AgentErrorCode
from segfed.rules import FederationRules
from tests.federation_samples import AddingAgent, FakeTime, ScriptedGrid, arrays

DEADLINE = 60


@pytest.fixture
def grid():
    return ScriptedGrid({site: AddingAgent(1) for site in "abc"}, FakeTime())


def make_attendance(grid, **rules):
    return Attendance(
        grid,
        site_names=grid.site_names,
        rules=FederationRules(round_deadline_seconds=DEADLINE, **rules),
        clock=grid.time.clock(),
    )


def requests(attendance):
    return {
        site: request_message(
            "train",
            write_arrays(arrays()),
            manifest_sha256="f" * 64,
            round_number=1,
            node_id=node,
        )
        for site, node in attendance.connected().items()
    }


def ask(attendance, *, enough=lambda: True):
    """The sites that answered in one exchange."""
    return [site for site, _ in attendance.exchange(requests(attendance), enough=enough)]


def test_an_exchange_ends_when_all_have_answered(grid):
    grid.silent_until["b"] = 20

    assert ask(make_attendance(grid)) == ["a", "c", "b"]
    assert grid.time.seconds == 20


def test_an_exchange_ends_at_the_deadline(grid):
    grid.silent_until["b"] = DEADLINE + 1

    assert ask(make_attendance(grid)) == ["a", "c"]
    assert grid.time.seconds == DEADLINE


def test_sites_that_one_machine_runs_one_after_the_other_are_not_late(grid):
    class TiringAgent(AddingAgent):
        def answer(self, request):
            grid.time.seconds += 50
            return super().answer(request)

    grid.agents.update({site: TiringAgent(1) for site in "abc"})

    assert ask(make_attendance(grid)) == ["a", "b", "c"]
    assert grid.time.seconds == 150


def test_a_reply_is_fetched_only_when_the_one_before_was_taken(grid):
    attendance = make_attendance(grid)
    replies = attendance.exchange(requests(attendance), enough=lambda: True)

    next(replies)

    assert [len(grid.agents[site].requests) for site in "abc"] == [1, 0, 0]


def test_a_site_may_miss_as_many_exchanges_as_the_study_allows(grid):
    grid.silent_until["c"] = 1e9
    attendance = make_attendance(grid, missed_rounds=2)

    ends = []
    for _ in range(4):
        ask(attendance)
        ends.append(grid.time.seconds)

    assert ends == [60, 120, 120, 120]


def test_an_absent_site_is_waited_for_while_there_is_not_enough(grid):
    grid.silent_until["c"] = 90
    attendance = make_attendance(grid)
    ask(attendance)  # c was late: nobody waits for it any more

    assert ask(attendance, enough=lambda: False) == ["a", "b", "c"]
    assert grid.time.seconds == 90


def test_a_late_answer_brings_a_site_back_while_the_next_exchange_runs(grid):
    grid.silent_until["c"] = 75
    attendance = make_attendance(grid)
    ask(attendance)
    grid.silent_until["b"] = 80  # keeps the second exchange open

    assert ask(attendance) == ["a", "c", "b"]
    grid.silent_until["c"] = 100
    assert ask(attendance) == ["a", "b", "c"]  # waited for, as before
    assert grid.time.seconds == 100


def test_a_site_that_connects_again_is_waited_for_again(grid):
    grid.silent_until["c"] = 1e9
    attendance = make_attendance(grid)
    ask(attendance)
    grid.away = {"c"}
    ask(attendance)
    assert grid.time.seconds == DEADLINE
    grid.away = set()
    grid.silent_until["c"] = 90

    assert ask(attendance) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("code", "seconds"),
    [
        (int(AgentErrorCode.TRAINING_FAILED), 100),  # the site lives, and is waited for
        (4, 80),  # Flower's own word that the node went away is no sign of life
    ],
)
def test_only_a_site_s_own_late_failure_is_a_sign_of_life(grid, code, seconds):
    grid.silent_until["c"] = 100
    attendance = make_attendance(grid)
    messages = requests(attendance)
    list(attendance.exchange(messages, enough=lambda: True))
    pull = grid.pull_messages

    def fail_the_late_one(keys):
        is_late = keys == ["message-3"] and grid.time.seconds >= 75
        return [Message(Error(code), reply_to=messages["c"])] if is_late else pull(keys)

    grid.pull_messages = fail_the_late_one
    grid.silent_until["b"] = 80  # keeps the second exchange open

    ask(attendance)

    assert grid.time.seconds == seconds


def test_a_late_answer_is_not_looked_for_without_end(grid):
    grid.silent_until["c"] = 1e9
    attendance = make_attendance(grid)
    ask(attendance)  # ends at 60; the reply is of interest until 120
    grid.time.seconds = 121
    ask(attendance)
    grid.silent_until["c"] = 0
    grid.agents["c"].requests.clear()

    ask(attendance)

    # The answers to the second and the third message; that to the first stays unfetched.
    assert len(grid.agents["c"].requests) == 2


def test_messages_expire_so_that_a_site_that_was_away_gets_no_old_work(grid):
    attendance = make_attendance(grid)
    messages = requests(attendance)

    list(attendance.exchange(messages, enough=lambda: True))

    assert {message.metadata.ttl for message in messages.values()} == {2 * DEADLINE}


def test_messages_that_could_not_be_sent_are_not_waited_for(grid):
    grid.push_messages = lambda _messages: []

    assert ask(make_attendance(grid)) == []
    assert grid.time.seconds == 0


def test_a_quorum_is_waited_for_before_anything_is_sent(grid):
    grid.away = {"b", "c"}
    attendance = make_attendance(grid)

    assert list(attendance.connected()) == ["a"]
    assert grid.time.seconds == DEADLINE
