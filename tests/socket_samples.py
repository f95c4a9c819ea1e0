"""An agent's server in a thread of the test's own process."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from segfed.agent.listening import listening_socket, make_server
from segfed.agent.service import JobDesk, create_app
from segfed.protocol import AgentConnection


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket, as pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="sf-") as folder:
        yield Path(folder)


@contextlib.contextmanager
def serving(
    agent: AgentConnection,
    path: Path,
    *,
    peers: tuple[int, ...] = (),
    largest_message_bytes: int = 1024**2,
) -> Iterator[JobDesk]:
    """Serve an agent at a path while the block runs."""
    desk = JobDesk(agent)
    server = make_server(
        create_app(desk, largest_message_bytes=largest_message_bytes),
        peers=peers or (os.geteuid(),),
    )
    with listening_socket(path, shared=False) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        until(lambda: server.started)
        try:
            yield desk
        finally:
            server.should_exit = True
            thread.join()


def until(condition) -> None:
    """Wait for a condition, for two minutes at most."""
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
