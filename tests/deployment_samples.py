"""A federation of tiny sites on this machine: real processes, TLS and node authentication."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
from typer.testing import CliRunner

from federation.simulation import run_federation
from segfed.agent import sign
from segfed.cli.federation_code import code_sha256
from segfed.cli.flower import free_port
from segfed.cli.main import app
from segfed.protocol import (
    AgentConnection,
    AgentError,
    AgentErrorCode,
    Manifest,
    RoundRecord,
    RoundReply,
    RoundRequest,
    StudyFolder,
)
from segfed.run_files import STATE_FILE, read_rounds, read_state
from segfed.sites import load_site
from tests.agent_samples import (
    bean_manifest,
    labelled_site,
    make_agent,
    make_owner,
    owner_public_key,
    start_weights,
)

SITES = ("north", "southern")
PATIENCE_SECONDS = 600.0
RELAY = "multiprocessing.forkserver"
"""In the command line of each relay, and of the process that they fork from."""
SEGFED = (sys.executable, "-c", "from segfed.cli import main; main()", "federate")


@dataclass(frozen=True)
class Federation:
    """Kits, sites and the owner's key, all below one folder."""

    folder: Path

    @property
    def kit(self) -> Path:
        """The server's kit."""
        return self.folder / "kits" / "server"

    @property
    def superlink_log(self) -> Path:
        """What Flower's server says."""
        return self.kit / "logs" / "superlink.log"

    def site(self, name: str) -> Path:
        """A hospital's own folder."""
        return self.folder / name

    def said(self, name: str) -> str:
        """What the command of a site, or ``server``, printed so far."""
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""


def federate(*arguments: object) -> str:
    """What a quick command prints; it must succeed."""
    result = CliRunner().invoke(app, ["federate", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def make_federation(
    folder: Path,
    *,
    sites: tuple[str, ...] = SITES,
    host: str = "localhost",
    bind: str = "127.0.0.1",
) -> Federation:
    """Sites with keys of their own, kits for all, and an owner whom the sites trust."""
    owner_public_key(make_owner(folder))
    for name in sites:
        labelled_site(folder, name=name)
        federate("keys", folder / name)
    lines = "".join(f'{name} = "{name}/node.pub"\n' for name in sites)
    (folder / "federation.toml").write_text(
        f'name = "trial"\nhost = "{host}"\nbind = "{bind}"\nport = {free_port()}\n'
        f'owner = "owner.pub"\n[sites]\n{lines}'
    )
    federate("provision", folder / "federation.toml", "--out", folder / "kits")
    for name in sites:
        federate("trust", folder / name, folder / "kits" / name / "owner.pub")
    return Federation(folder)


def signed_study(federation: Federation, /, *, name: str = "beans", **changes: object) -> Path:
    """A study that its owner signed and every site approved."""
    folder = federation.folder
    manifest = bean_manifest(folder, study=name, bundle_sha256=code_sha256(), **changes)
    path = folder / f"{name}.json"
    path.write_text(sign(manifest, folder / "owner.key").model_dump_json())
    for site in sorted(path.parent.glob("*/site.toml")):
        federate("approve", site.parent, path, "--yes", "--by", "ann")
    return path


def manifest_of(study: Path) -> Manifest:
    """The manifest in a signed study's file."""
    return Manifest.model_validate(json.loads(study.read_text())["manifest"])


def run_folder(federation: Federation, study: Path) -> StudyFolder:
    """Where the server keeps a study."""
    return StudyFolder.of(federation.kit, manifest_of(study).sha256)


@dataclass(frozen=True)
class Unheard:
    """An agent that works, and whose answers are lost in some rounds."""

    agent: AgentConnection
    rounds: Collection[int]

    def answer(self, request: RoundRequest) -> RoundReply:
        reply = self.agent.answer(request)
        if request.round in self.rounds:
            raise AgentError(AgentErrorCode.INTERNAL)
        return reply


def simulated_weights(
    folder: Path,
    study: Path,
    *,
    sites: tuple[str, ...] = SITES,
    unheard: Mapping[str, Collection[int]] | None = None,
) -> bytes:
    """Final weights of the same study in this process, on sites of its own with the same data.

    Args:
        folder: Where these sites and the run go.
        study: The signed study.
        sites: Who takes part.
        unheard: Rounds in which a site's answers do not arrive.
    """
    manifest = manifest_of(study)
    folder.mkdir()
    (folder / "start.safetensors").write_bytes(start_weights(manifest))
    copies = {name: load_site(labelled_site(folder, name=name).folder) for name in sites}
    run_federation(
        manifest,
        agents={
            name: Unheard(make_agent(site, manifest), (unheard or {}).get(name, ()))
            for name, site in copies.items()
        },
        initial_weights=folder / "start.safetensors",
        out=folder / "run",
        on_round=lambda _: None,
    )
    return (folder / "run" / f"round_{manifest.rounds:03d}.safetensors").read_bytes()


@contextlib.contextmanager
def command(federation: Federation, name: str, *arguments: object) -> Iterator[subprocess.Popen]:
    """A long command, told to stop at the end; what it prints is ``said(name)``."""
    with (federation.folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [*SEGFED, *map(str, arguments)], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_SECONDS)
            finally:
                process.kill()


@contextlib.contextmanager
def served(federation: Federation) -> Iterator[subprocess.Popen]:
    """The server, once it listens."""
    with command(federation, "server", "serve", federation.kit) as process:
        until(
            lambda: "The server listens" in federation.said("server"),
            alive=process,
            said=lambda: federation.said("server") + read(federation.superlink_log),
        )
        yield process


@contextlib.contextmanager
def joined(federation: Federation, name: str) -> Iterator[subprocess.Popen]:
    """A site's agent and node, starting."""
    # Unix sockets have short paths, which pytest's are not.
    with tempfile.TemporaryDirectory(prefix="sf-") as folder:
        arguments = (federation.folder / "kits" / name, federation.site(name))
        options = ("--socket", f"{folder}/agent.sock", "--device", "cpu")
        with command(federation, name, "join", *arguments, *options) as process:
            yield process


@contextlib.contextmanager
def running(federation: Federation, *, sites: tuple[str, ...] = SITES) -> Iterator[Federation]:
    """Server and sites, running."""
    with served(federation), contextlib.ExitStack() as stack:
        for name in sites:
            stack.enter_context(joined(federation, name))
        yield federation


def submit(federation: Federation, study: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Submit a study and wait for its end."""
    return subprocess.run(
        [*SEGFED, "submit", str(federation.kit), str(study), *options],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_SECONDS,
        check=False,
    )


def killed_in_round(
    federation: Federation, study: Path, *, number: int, victim: str
) -> subprocess.CompletedProcess[str]:
    """Submit a study, kill -9 a process while a round is on, and wait for the end.

    Args:
        federation: Server and sites, running.
        study: The signed study.
        number: The round, counted from 1; a relay is at work when the process is killed.
        victim: Text in the command line of the process; the last one started is killed.
    """

    def kill() -> None:
        before = set(processes(RELAY))  # may still be on their way out
        until(lambda: set(processes(RELAY)) - before)
        max(processes(victim), key=psutil.Process.create_time).kill()

    return disturbed_in_round(federation, study, number=number, disturb=kill)


def disturbed_in_round(
    federation: Federation, study: Path, *, number: int, disturb: Callable[[], object]
) -> subprocess.CompletedProcess[str]:
    """Submit a study, do something once all rounds before one are done, and wait for the end."""
    outcome: list[subprocess.CompletedProcess[str]] = []
    submission = threading.Thread(target=lambda: outcome.append(submit(federation, study)))
    submission.start()
    try:
        until(lambda: len(rounds_done(federation, study)) == number - 1)
        disturb()
    finally:
        submission.join()
    return outcome[0]


def until_trains(federation: Federation, name: str, *, number: int) -> None:
    """Wait until a site's agent, which ``join`` started, begins to train a round once more."""
    log, line = federation.site(name) / "logs" / "agent.log", f"Round {number}: train begins"
    before = read(log).count(line)
    until(lambda: read(log).count(line) > before, said=lambda: read(log))


def final_weights(federation: Federation, study: Path) -> bytes:
    """The last round's weights, as the server wrote them."""
    last = f"round_{manifest_of(study).rounds:03d}.safetensors"
    return (run_folder(federation, study).run / last).read_bytes()


def rounds_done(federation: Federation, study: Path) -> tuple[RoundRecord, ...]:
    """Rounds of a study that the server wrote down."""
    run = run_folder(federation, study).run
    return read_rounds(run, read_state(run)) if (run / STATE_FILE).exists() else ()


def processes(text: str) -> list[psutil.Process]:
    """Processes that this one started, directly or not, with a text in their command line."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if text in " ".join(process.cmdline()):
                found.append(process)
    return found


def until(
    condition: Callable[[], object],
    *,
    alive: subprocess.Popen | None = None,
    said: Callable[[], str] = str,
) -> None:
    """Wait for a condition while a process lives."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert alive is None or alive.poll() is None, said()
        assert time.monotonic() < end, said()
        time.sleep(0.1)


def read(path: Path) -> str:
    """A file's text; empty where there is none."""
    return path.read_text(errors="replace") if path.exists() else ""
