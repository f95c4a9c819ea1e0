"""Seconds of a round of NVFlare's FedAvg whose sites do nothing; for ``round_overhead.py``.

    python benchmarks/nvflare_rounds.py SITES ROUNDS MEGABYTES

Runs where NVFlare is installed, without segfed. A federation as NVFlare provisions it, on this
machine: a server, sites that keep their processes, certificates for all, one array as the model. A
round goes from the first site that gets a model to the first one that gets the next; the last line
of the output is their seconds as JSON, without those of the first round and of the last, which no
other follows.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import yaml
from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
from nvflare.recipe.prod_env import ProdEnv

CLIENT = Path(__file__).with_name("nvflare_client.py")
ADMIN = "admin@example.com"


def main() -> None:
    n_sites, n_rounds, megabytes = (int(argument) for argument in sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="nv-") as temporary:
        seconds = run(Path(temporary), n_sites=n_sites, n_rounds=n_rounds, megabytes=megabytes)
    print(json.dumps(seconds))


def run(folder: Path, *, n_sites: int, n_rounds: int, megabytes: int) -> list[float]:
    """Seconds of all rounds but the first and the last."""
    kits = provision(folder, n_sites)
    model, times = folder / "model.npy", folder / "times"
    np.save(model, np.zeros(megabytes * 250_000, dtype=np.float32))
    times.mkdir()
    recipe = NumpyFedAvgRecipe(
        name="rounds",
        initial_ckpt=str(model),
        min_clients=n_sites,
        num_rounds=n_rounds,
        train_script=str(CLIENT),
        train_args=str(times),
    )
    with contextlib.ExitStack() as stack:
        for kit in kits:
            stack.enter_context(running(kit))
        admin = ProdEnv(str(kits[0].parent / ADMIN), login_timeout=60.0, username=ADMIN)
        recipe.execute(admin).get_result()
    received = zip(
        *([float(line) for line in site.read_text().split()] for site in times.iterdir()),
        strict=True,
    )
    starts = [min(of_round) for of_round in received]
    return [after - before for before, after in pairwise(starts)][1:]


def provision(folder: Path, n_sites: int) -> list[Path]:
    """The start-up kits: the server's, and each site's."""
    sites = [f"site-{number + 1}" for number in range(n_sites)]
    server = {"name": "server1", "type": "server", "org": "benchmark", "default_host": "localhost"}
    project = {
        "api_version": 3,
        "name": "benchmark",
        "participants": [
            {**server, "fed_learn_port": free_port()},
            *({"name": site, "type": "client", "org": "benchmark"} for site in sites),
            {"name": ADMIN, "type": "admin", "org": "benchmark", "role": "project_admin"},
        ],
        "builders": [
            {"path": f"nvflare.lighter.impl.{path}"}
            | ({"args": {"template_file": ["master_template.yml"]}} if "workspace" in path else {})
            for path in (
                "workspace.WorkspaceBuilder",
                "static_file.StaticFileBuilder",
                "cert.CertBuilder",
                "signature.SignatureBuilder",
            )
        ],
    }
    (folder / "project.yml").write_text(yaml.safe_dump(project))
    command = [sys.executable, "-m", "nvflare.cli", "provision", "-p", "project.yml", "--force"]
    subprocess.run(command, cwd=folder, check=True)
    kits = folder / "workspace" / "benchmark" / "prod_00"
    return [kits / "server1", *(kits / site for site in sites)]


@contextlib.contextmanager
def running(kit: Path) -> Iterator[None]:
    """A participant that runs until the block ends."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with (kit / "benchmark.log").open("ab") as log:
        process = subprocess.Popen(
            [kit / "startup" / "sub_start.sh", "--once"],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
