"""Flower's Ray engine under the same server: sites train side by side, in processes of their own.

A site's message may go to another process than the one before. Whatever process it is goes on from
what the site's agent stored on disk, as after a restart, so that the result is that of one process
after the other. Nothing stays behind: Ray's processes and files end with the federation.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from federation.client_app import make_client_app
from federation.grid import Answer, InProcessGrid
from segfed.agent import Agent
from segfed.engine import select_device
from segfed.errors import FederationError
from segfed.protocol import FederationJob
from segfed.sites import load_site

if TYPE_CHECKING:
    from flwr.server.superlink.fleet.vce.backend import Backend

_PARTITION = "partition-id"  # Flower's engine asks for it

# Agents that a process keeps warm: a network, its optimizer and its cases each.
_WARM_AGENTS = 4


class RayGrid(InProcessGrid):
    """Sends each message to a free process of Ray at once, and hands out the replies as they come.

    As many messages are worked on as there are processes; the others wait.
    """

    def __init__(
        self, answer: Answer, sites: Iterable[int], *, executor: ThreadPoolExecutor
    ) -> None:
        """Take what has a message answered, the sites' nodes, and threads that wait for it."""
        contexts = {node: Context(1, node, {_PARTITION: node}, RecordDict(), {}) for node in sites}
        super().__init__(answer, contexts)
        self._executor = executor
        self._running: dict[str, Future[Message]] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Take in messages and have them worked on."""
        keys = list(super().push_messages(messages))
        self._running |= {key: self._executor.submit(self._run_client, key) for key in keys}
        return keys

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there, once; does not wait."""
        done = [k for k in message_ids if k in self._running and self._running[k].done()]
        return [self._running.pop(key).result() for key in done]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Replies to all messages, or those that came in time."""
        keys = list(self.push_messages(messages))
        wait([self._running[key] for key in keys], timeout=timeout)
        return self.pull_messages(keys)


@contextlib.contextmanager
def ray_grid(job: FederationJob, sites: Mapping[int, Path]) -> Iterator[RayGrid]:
    """A grid whose sites are worked on by Ray's processes: one a core, or one a GPU.

    Args:
        job: The federation; ``threads`` says how many cores a process takes.
        sites: The folder of each site, by its node.

    Raises:
        FederationError: If Ray is not installed, does not start, or loses a process.
    """
    # Read when Ray is imported: it reports usage, and asks cloud providers where it runs.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        from flwr.server.superlink.fleet.vce.backend.raybackend import RayBackend
    except ImportError as error:
        raise FederationError(
            f"The engine 'ray' was asked for, but {error.name} is not installed; expected Ray. "
            "Install it with `pip install 'segfed[ray]'`, or take the engine 'in-process'."
        ) from None
    on_gpu = select_device(job.device).type == "cuda"
    # Sockets lie in this folder, whose path must be short.
    with tempfile.TemporaryDirectory(prefix="segfed-ray-", dir="/tmp") as folder:
        try:
            backend = RayBackend(
                {
                    "client_resources": {"num_cpus": job.threads or 1, "num_gpus": float(on_gpu)},
                    "init_args": {"include_dashboard": False, "_temp_dir": folder},
                }
            )
            folders = {node: str(path) for node, path in sites.items()}
            backend.build(partial(_client_app, job.model_dump_json(), folders))
        except (OSError, RuntimeError, ValueError) as error:
            raise FederationError(
                f"Ray did not start ({error}); expected it to find a core or a GPU for each "
                "process. Lower the number of threads, or take the engine 'in-process'."
            ) from error
        try:
            with ThreadPoolExecutor(backend.num_workers) as executor:
                yield RayGrid(partial(_through_ray, backend), sites, executor=executor)
        finally:
            backend.terminate()


def _through_ray(backend: Backend, message: Message, context: Context) -> Message:
    """The reply of a process; what a site cannot do is a reply, too."""
    try:
        reply, _ = backend.process_message(message, context)
    except Exception as error:
        raise FederationError(
            f"A process of Ray was lost ({type(error).__name__}), expected a reply. It may have "
            "had too little memory: let fewer sites train at once with more threads each, and run "
            "again: finished rounds are kept."
        ) from error
    return reply


def _client_app(job_json: str, folders: Mapping[int, str]) -> ClientApp:
    """The relay of every site, in one of Ray's processes."""
    return make_client_app(lambda context: _agent(job_json, folders[context.node_id]))


@lru_cache(maxsize=_WARM_AGENTS)
def _agent(job_json: str, folder: str) -> Agent:
    """A site's agent, kept in this process."""
    job = FederationJob.model_validate_json(job_json)
    return Agent(load_site(Path(folder)), job.manifest, device=select_device(job.device))
