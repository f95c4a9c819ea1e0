"""A whole federation on one machine: ``python -m federation.simulation JOB.json``.

The server, the relays and the messages are Flower's own; the sites' agents run in this process,
one after the other, or in those of Flower's Ray engine, side by side. A JSON line for each round
goes to stdout, the story to stderr. The exit code is 0 when all rounds are done, 1 when the run
failed, 2 for a wrong command line.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TextIO

from flwr.app import Context, RecordDict
from pydantic import ValidationError

from federation.client_app import make_client_app
from federation.grid import InProcessGrid
from federation.server_app import make_server_app
from segfed.agent import Agent
from segfed.engine import select_device
from segfed.errors import ConfigError, FederationError, SegfedError
from segfed.protocol import MANIFEST_KEY, AgentConnection, FederationJob, Manifest, RoundRecord
from segfed.sites import load_site

logger = logging.getLogger(__name__)

OnRound = Callable[[RoundRecord], None]


def run_federation(
    manifest: Manifest,
    *,
    agents: Mapping[str, AgentConnection],
    initial_weights: Path,
    out: Path,
    on_round: OnRound,
) -> None:
    """Train a study with agents in this process, or go on where an earlier process stopped.

    Args:
        manifest: The study.
        agents: The agent of each site, by the site's name.
        initial_weights: Safetensors from which round 1 starts.
        out: The run folder.
        on_round: Called with every round's record, those of an earlier process first.

    Raises:
        FederationError: If too few sites take part, or the run folder belongs to another run.
        WeightsError: If the initial weights cannot be read.
    """
    nodes = dict(enumerate(sorted(agents), start=1))
    client_app = make_client_app(lambda context: agents[nodes[context.node_id]])
    contexts = {node: Context(1, node, {}, RecordDict(), {}) for node in nodes}
    server_app = make_server_app(
        manifest, site_names=nodes, initial_weights=initial_weights, out=out, on_round=on_round
    )
    server_app(InProcessGrid(client_app, contexts), _server_context(manifest))


def _run_on_ray(job: FederationJob, folders: Mapping[str, Path], *, on_round: OnRound) -> None:
    """The same, with the agents in Ray's processes."""
    from federation.ray_engine import ray_grid

    nodes = dict(enumerate(sorted(folders), start=1))
    server_app = make_server_app(
        job.manifest,
        site_names=nodes,
        initial_weights=job.initial_weights,
        out=job.out,
        on_round=on_round,
    )
    with ray_grid(job, {node: folders[name] for node, name in nodes.items()}) as grid:
        server_app(grid, _server_context(job.manifest))


def _server_context(manifest: Manifest) -> Context:
    """What Flower would tell the server of its run."""
    return Context(1, 0, {}, RecordDict(), {MANIFEST_KEY: manifest.sha256})


def simulate(job: FederationJob, *, on_round: OnRound) -> None:
    """Train a study on site folders of this machine.

    Raises:
        ConfigError: If a site cannot be loaded, or two have one name.
        FederationError: As ``run_federation``.
        WeightsError: As ``run_federation``.
    """
    sites = [load_site(folder) for folder in job.sites]
    names = [site.name for site in sites]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"The sites are called {', '.join(sorted(names))}, expected a different name for "
            "each. Rename one in its site.toml, or list each folder once."
        )
    if job.engine == "ray":
        _run_on_ray(job, {site.name: site.folder for site in sites}, on_round=on_round)
        return
    device = select_device(job.device)
    run_federation(
        job.manifest,
        agents={site.name: Agent(site, job.manifest, device=device) for site in sites},
        initial_weights=job.initial_weights,
        out=job.out,
        on_round=on_round,
    )


def main(arguments: Sequence[str]) -> int:
    """Run the job in a file; returns the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("Usage: python -m federation.simulation JOB.json\n")
        return 2
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    for name in ("segfed", "federation", "transforms"):
        logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger("flwr").setLevel(logging.WARNING)
    try:
        with _stdout_for_records() as stream:
            simulate(_read_job(Path(arguments[0])), on_round=partial(_report, stream))
    except SegfedError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except BrokenPipeError:
        sys.stderr.write("Nobody reads the progress any more: the run stops after this round.\n")
        return 1
    except OSError as error:
        sys.stderr.write(
            f"A file of the run cannot be read or written: {error}. Make room or correct the "
            "permissions, and run again: finished rounds are kept.\n"
        )
        return 1
    return 0


def _read_job(path: Path) -> FederationJob:
    """The job in a JSON file."""
    try:
        return FederationJob.model_validate_json(path.read_bytes())
    except OSError as error:
        raise FederationError(
            f"The job {path} cannot be read ({error.strerror}); expected a JSON file. Check the "
            "path."
        ) from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
        )
        raise ConfigError(
            f"The job {path} breaks {error.error_count()} rules: {problems}"
        ) from None


@contextlib.contextmanager
def _stdout_for_records() -> Iterator[TextIO]:
    """The caller's stdout; meanwhile all that a library prints there goes to stderr."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(os.dup(stdout), "w", encoding="utf-8") as stream:
            yield stream
    finally:
        sys.stdout.flush()
        os.dup2(stdout, 1)
        os.close(stdout)


def _report(stream: TextIO, record: RoundRecord) -> None:
    """One line for the caller's progress display."""
    stream.write(record.model_dump_json() + "\n")
    stream.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
