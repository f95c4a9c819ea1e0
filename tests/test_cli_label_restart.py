"""When a label server is started again, and when not."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from segfed.cli import label_restart
from segfed.cli.label_listen import Listen
from segfed.cli.label_restart import MOST_QUICK_ENDS, QUICK_SECONDS, serve_for_good, site_starter
from segfed.errors import ConfigError, ServerError
from segfed.sites import add_account, remove_account


@dataclass
class MadeUpServers:
    """Servers that live as long as they are told, on a clock that only they move."""

    lives_seconds: list[float]
    now: float = 0.0
    starts: list[Listen] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    n_ready: int = 0

    def run(self) -> None:
        serve_for_good(
            self.start,
            listen=Listen(),
            on_ready=self.count_ready,
            clock=lambda: self.now,
            sleep=self.pauses.append,
        )

    def count_ready(self, _server: object) -> None:
        self.n_ready += 1

    @contextmanager
    def start(self, listen: Listen):
        self.starts.append(listen)
        if not self.lives_seconds:
            raise KeyboardInterrupt
        self.listen = replace(listen, port=listen.port or 8123)
        yield self

    def wait(self) -> None:
        self.now += self.lives_seconds.pop(0)
        raise ServerError(f"ended at {self.now:g}")


def test_a_server_that_ends_by_itself_comes_back_at_the_same_address():
    servers = MadeUpServers([10 * QUICK_SECONDS] * 7)

    with pytest.raises(KeyboardInterrupt):
        servers.run()

    assert [listen.port for listen in servers.starts] == [0, *[8123] * 7]
    assert servers.pauses == [1.0] * 7
    assert servers.n_ready == 1


def test_a_server_that_always_ends_soon_is_given_up_with_its_last_words():
    servers = MadeUpServers([1.0] * 100)

    with pytest.raises(ServerError, match=rf"{MOST_QUICK_ENDS} times in a row.*ended at 5"):
        servers.run()

    assert servers.pauses == [1.0, 2.0, 4.0, 8.0]


def test_a_long_life_forgives_earlier_ends():
    servers = MadeUpServers([*[1.0] * 4, QUICK_SECONDS, *[1.0] * 3])

    with pytest.raises(KeyboardInterrupt):
        servers.run()

    assert servers.pauses == [1.0, 2.0, 4.0, 8.0, 1.0, 2.0, 4.0, 8.0]


def test_a_first_start_that_fails_is_not_tried_again():
    starts = []

    def start(listen):
        starts.append(listen)
        raise ServerError("no port")

    with pytest.raises(ServerError, match="no port"):
        serve_for_good(start, listen=Listen(), on_ready=starts.append)
    assert len(starts) == 1


@pytest.mark.parametrize("error", [ConfigError("mode 644"), OSError(28, "disk is full")])
def test_what_somebody_may_cure_meanwhile_is_tried_again(error):
    servers = MadeUpServers([1.0, 10 * QUICK_SECONDS])
    good = servers.start

    def start(listen):
        if len(servers.pauses) == 1:
            servers.pauses.append(0.0)
            raise error
        return good(listen)

    servers.start = start
    with pytest.raises(KeyboardInterrupt):
        servers.run()
    assert servers.pauses == [1.0, 0.0, 2.0, 1.0]


@pytest.mark.parametrize("waited_seconds", [0.0, QUICK_SECONDS + 1])
def test_a_later_start_that_fails_counts_as_a_quick_end_however_long_it_took(waited_seconds):
    servers = MadeUpServers([1.0])
    good, failures = servers.start, []

    def start(listen):
        if servers.lives_seconds:
            return good(listen)
        failures.append(listen)
        assert len(failures) < 10, "started again for ever"
        servers.now += waited_seconds
        raise ServerError("the port is taken")

    servers.start = start
    with pytest.raises(ServerError, match=r"5 times.*the port is taken"):
        servers.run()
    assert len(failures) == MOST_QUICK_ENDS - 1


@pytest.fixture
def readers(monkeypatch):
    """The reader for whom each server was started."""
    named = []
    monkeypatch.setattr(
        label_restart, "running_server", lambda *_, reader, **__: named.append(reader)
    )
    return named


def test_accounts_that_were_added_count_at_the_next_start_and_for_good(tmp_path, readers):
    start = site_starter(tmp_path, reader="ann", device="cpu")
    start(Listen())
    add_account(tmp_path, name="bob", role="annotator", password="correct horse battery")
    start(Listen())
    remove_account(tmp_path, "bob")

    with pytest.raises(ServerError, match=r"no account .* any more.*segfed label user add"):
        start(Listen())
    assert readers == ["ann", None]


def test_at_the_first_start_a_named_reader_is_left_to_the_check(tmp_path, readers):
    add_account(tmp_path, name="bob", role="annotator", password="correct horse battery")

    site_starter(tmp_path, reader="ann", device="cpu")(Listen())

    assert readers == ["ann"]
