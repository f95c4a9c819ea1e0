"""Seconds of a round across processes that no site spends on training or validation.

    python benchmarks/round_overhead.py [--sites 3] [--rounds 6] [--turns 1] [--nvflare-python PATH]

A real federation on this machine, over TLS and with node authentication: SuperLink, and a node and
an agent for each synthetic site, with a model of 19 MB. The figure of a round is the server's time
from the first request to the last score, less the longest time that a site says it worked; the
first round, in which caches fill, does not count. Two exchanges make a round (train, validate).
Each waits for Flower's node to look for messages, for its executor to look for work, for a new
process that relays, and for the node to see the answer, see ``federation/node.py``; 3 sites wait
for the slowest of them.

`--nvflare-python` is an interpreter of an environment with `pip install nvflare==2.9.0`, which is
no dependency of segfed. Both then take turns: NVFlare's FedAvg has one exchange a round, as many
bytes up and down, and sites that do nothing, so that all of its round is overhead.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from segfed.agent import decide, sign, trust
from segfed.cli.federation_code import code_sha256
from segfed.cli.flower import free_port
from segfed.cli.kit import FederationSettings
from segfed.cli.provision import provision
from segfed.engine import make_plan
from segfed.phantom import CaseCounts, generate_sites
from segfed.protocol import Manifest, RoundRecord, StudyFolder
from segfed.run_files import read_rounds, read_state
from segfed.sites import Site

NVFLARE = Path(__file__).with_name("nvflare_rounds.py")
MEGABYTES = 19  # of the plan below
SPACING_MM = 12.0
PLAN = {"spacing_mm": [SPACING_MM] * 3, "patch_voxels": [16] * 3, "features": [64, 360]}
_SEGFED = (sys.executable, "-c", "from segfed.cli import main; main()", "federate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sites", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--turns", type=int, default=1, help="federations of so many rounds")
    parser.add_argument("--nvflare-python", type=Path, help="with nvflare installed")
    options = parser.parse_args()
    found: dict[str, list[float]] = {}
    for _ in range(options.turns):
        found.setdefault("segfed", []).extend(turn(options.sites, options.rounds))
        if options.nvflare_python:
            others = nvflare(options.nvflare_python, options.sites, options.rounds)
            found.setdefault("NVFlare", []).extend(others)
    for name, seconds in found.items():
        print(
            f"{name}: median overhead of {len(seconds)} rounds {statistics.median(seconds):.1f} s "
            f"({min(seconds):.1f} to {max(seconds):.1f})"
        )


def turn(n_sites: int, rounds: int) -> list[float]:
    """The overhead of each round of one federation but the first."""
    # Unix sockets have short paths.
    with tempfile.TemporaryDirectory(prefix="sf-") as folder:
        records = run(Path(folder), n_sites=n_sites, rounds=rounds)[1:]
    for record in records:
        megabytes = max(site["bytes_down"] or 0 for site in record.sites.values()) / 1e6
        print(
            f"round {record.round}: {record.seconds:5.1f} s, of which {overhead(record):4.1f} s "
            f"overhead; {megabytes:.1f} MB to each site"
        )
    return [overhead(record) for record in records]


def nvflare(python: Path, n_sites: int, rounds: int) -> list[float]:
    """The same of NVFlare, whose rounds are all overhead."""
    command = [python, NVFLARE, n_sites, rounds, MEGABYTES]
    done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, text=True, check=True)
    seconds: list[float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def overhead(record: RoundRecord) -> float:
    """Seconds of a round that were nobody's work."""
    return record.seconds - max(site["seconds"] or 0.0 for site in record.sites.values())


def run(folder: Path, *, n_sites: int, rounds: int) -> tuple[RoundRecord, ...]:
    """A federation from its keys to the records of its rounds."""
    counts = CaseCounts(warmup=1, train=2, validation=1, test=1)
    sites = generate_sites(
        folder / "sites",
        task="kidney_tumor",
        n_sites=n_sites,
        n_external=0,
        counts=counts,
        spacing_mm=SPACING_MM,
    )
    owner = _owner_key(folder)
    server, *kits = provision(
        FederationSettings(
            name="benchmark",
            host="localhost",
            port=free_port(),
            owner=Path("owner.pub"),
            sites={site.name: Path(f"{site.name}.pub") for site in sites},
        ),
        folder=folder,
        out=folder / "kits",
        now=datetime.now(UTC),
        make_keys=True,
    )
    manifest = _manifest(sites[0], rounds=rounds)
    signed = sign(manifest, owner)
    (folder / "signed.json").write_text(signed.model_dump_json())
    for site in sites:
        trust(site.folder, folder / "owner.pub", name="owner")
        decide(site, signed, approved=True, by=getpass.getuser(), at=datetime.now(UTC))
    with contextlib.ExitStack() as stack:
        stack.enter_context(_running(folder / "server.log", "serve", server))
        for site, kit in zip(sites, kits, strict=True):
            options = ("--socket", folder / f"{site.name}.sock", "--device", "cpu")
            stack.enter_context(
                _running(folder / f"{site.name}.log", "join", kit, site.folder, *options)
            )
        _submit(server, folder / "signed.json", log=folder / "server.log")
    study_run = StudyFolder.of(server, manifest.sha256).run
    return read_rounds(study_run, read_state(study_run))


def _manifest(site: Site, *, rounds: int) -> Manifest:
    """As little training as there can be, of a model of 19 MB."""
    return Manifest(
        study="benchmark",
        task=site.task.name,
        plan=make_plan(site.task, PLAN).model_dump(mode="json"),
        arm="manual",
        train_split="train",
        bundle_sha256=code_sha256(),
        seed=0,
        rounds=rounds,
        steps_per_round=1,
    )


def _submit(server: Path, study: Path, *, log: Path) -> None:
    """Run the study to its end, once the server listens."""
    while "The server listens" not in log.read_text():
        if "Error" in log.read_text():
            sys.exit(log.read_text())
        time.sleep(0.5)
    subprocess.run([*_SEGFED, "submit", str(server), str(study)], check=True)


@contextlib.contextmanager
def _running(log: Path, *arguments: object) -> Iterator[None]:
    """A command that runs until the block ends."""
    with log.open("ab") as handle:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [*_SEGFED, *map(str, arguments)]
        process = subprocess.Popen(
            command, stdout=handle, stderr=subprocess.STDOUT, env=environment
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def _owner_key(folder: Path) -> Path:
    """A key pair to sign with."""
    key = Ed25519PrivateKey.generate()
    path = folder / "owner.key"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "owner.pub").write_bytes(public)
    return path


if __name__ == "__main__":
    main()
