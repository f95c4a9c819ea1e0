"""The server of a study across hospitals, as the SuperLink starts it for a submitted run."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from federation.server_app import make_server_app
from segfed.errors import FederationError, SegfedError
from segfed.files import write_text
from segfed.processes import die_with_parent
from segfed.protocol import (
    MANIFEST_KEY,
    SERVER_FOLDER_VARIABLE,
    RoundRecord,
    ServerJob,
    StudyFolder,
)
from segfed.settings import load_json

logger = logging.getLogger(__name__)

# A server process whose SuperLink was killed takes some seconds to notice.
_PATIENCE_SECONDS = 30.0
_PAUSE_SECONDS = 0.5

app = ServerApp()
"""What Flower loads at the server."""


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the study that the run config names, from the server's own folder.

    Raises:
        FederationError: If there is no such study here, or the run fails.
    """
    _configure_logging()
    end_with_parent()
    server_folder = Path(os.environ[SERVER_FOLDER_VARIABLE])
    folder = StudyFolder.of(server_folder, str(context.run_config.get(MANIFEST_KEY)))
    job = load_json(folder.job, ServerJob, kind="submitted study")
    try:
        with only_server(folder.lock):
            write_text(folder.begun, f"{context.run_id}\n")
            folder.problem.unlink(missing_ok=True)
            run = make_server_app(
                job.manifest,
                site_names={node: site for site, node in job.sites.items()},
                initial_weights=folder.start,
                out=folder.run,
                on_round=_log_round,
                sites_may_change=True,
            )
            run(grid, context)
            # Whoever found the lock taken meanwhile said so there.
            folder.problem.unlink(missing_ok=True)
    except Exception as error:
        # Whatever it is: the operator sees this file, and the log of the server only if told to.
        said = str(error) if isinstance(error, SegfedError) else f"{type(error).__name__}: {error}"
        write_text(folder.problem, f"{said}\n")
        raise


def end_with_parent() -> None:
    """Have Linux kill this process once the one that started it has ended.

    Flower interrupts it then, too, and says goodbye to its SuperLink, which may take for ever where
    that has gone: the study would stay locked. Nothing is lost, for a round is written whole.
    """
    if ask := die_with_parent(signal.SIGKILL):
        ask()


@contextlib.contextmanager
def only_server(lock: Path, *, patience_seconds: float = _PATIENCE_SECONDS) -> Iterator[None]:
    """Hold a study's lock, so that no two processes write one run folder.

    Raises:
        FederationError: If another process keeps it.
    """
    end = time.monotonic() + patience_seconds
    with lock.open("ab") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise FederationError(
                        f"Another process works on {lock.parent}; expected one at a time. Wait "
                        "until it is done, or stop that run."
                    ) from None
                time.sleep(_PAUSE_SECONDS)
        yield


def _log_round(record: RoundRecord) -> None:
    logger.info("Round %d took %.1f s.", record.round, record.seconds)


def _configure_logging() -> None:
    """The story of a run goes where Flower's own log goes, which is the SuperLink's."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    for name in ("segfed", "federation"):
        logging.getLogger(name).setLevel(logging.INFO)
