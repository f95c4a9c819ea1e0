"""Seconds that a proposal costs beyond the network, here and on a stock MONAI Label server.

    python benchmarks/label_server.py [--repeats 15] [--load-seconds 20]

Both servers get the same network with the same weights and the same synthetic CT of 128 x 128 x 64
voxels, and are asked over HTTP as 3D Slicer asks, in turns, so that other programs on the machine
slow both alike; compare ratios. The network's forward pass is timed inside each server and
subtracted. What ours does more than the stock one: it stores the proposal under its hash, durably,
and notes it before it answers. Afterwards four clients keep ours busy with proposals, while
another one asks for /info/ ten times a second.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import torch
from scipy.ndimage import gaussian_filter

from segfed.cli.label_listen import Listen
from segfed.cli.label_server import running_server
from segfed.engine import Lineage, Plan, build_network, make_plan, write_bundle
from segfed.files import write_text
from segfed.sites import Site, SiteSettings, add_case, create_site, load_site
from segfed.study import publish
from segfed.volumes import Grid, Volume, read_label

SHAPE = (128, 128, 64)
SPACING_MM = (1.6, 1.6, 2.0)
WINDOW_HU = (-80.0, 300.0)
TRAINING_STEPS = 40
N_CLIENTS = 4
TASK = f"""
name = "organ"
title = "Made-up organ in made-up CT"
modality = "CT"
channels = ["ct"]
window_hu = {list(WINDOW_HU)}
[labels]
organ = 1
tumor = 2
[structures]
organ = [1, 2]
tumor = [2]
[tolerance_mm]
organ = 1.0
tumor = 1.0
[plan]
spacing_mm = {list(SPACING_MM)}
patch_voxels = {list(SHAPE)}
features = [8, 16]
stem_stride = 1
"""
# A minimal app as MONAI Label's own samples are written.
STOCK_APP = """
import time
from pathlib import Path
from monai.transforms import (
    Activationsd, AsDiscreted, EnsureChannelFirstd, EnsureTyped, LoadImaged, Orientationd,
    ScaleIntensityRanged, SqueezeDimd, ToNumpyd,
)
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.infer_v2 import InferType
from monailabel.tasks.infer.basic_infer import BasicInferTask
from segfed.engine import load_bundle

class Timed(load_bundle(Path({bundle!r})).network.__class__):
    def forward(self, x):
        start = time.perf_counter()
        result = super().forward(x)
        if x.is_cuda:
            import torch
            torch.cuda.synchronize()
        Timed.seconds = time.perf_counter() - start
        return result

class Organ(BasicInferTask):
    def __init__(self):
        network = load_bundle(Path({bundle!r})).network
        network.__class__ = Timed
        super().__init__(None, network, InferType.SEGMENTATION, {{"organ": 1, "tumor": 2}}, 3, "")

    def pre_transforms(self, data=None):
        return [
            LoadImaged(keys="image"), EnsureTyped(keys="image", device=data.get("device")),
            EnsureChannelFirstd(keys="image"), Orientationd(keys="image", axcodes="RAS"),
            ScaleIntensityRanged(
                keys="image", a_min={low}, a_max={high}, b_min=0.0, b_max=1.0, clip=True
            ),
        ]

    def post_transforms(self, data=None):
        return [
            EnsureTyped(keys="pred", device=data.get("device")),
            Activationsd(keys="pred", softmax=True), AsDiscreted(keys="pred", argmax=True),
            SqueezeDimd(keys="pred", dim=0), ToNumpyd(keys="pred"),
        ]

    def __call__(self, request, callbacks=None):
        file, answer = super().__call__(request, callbacks)
        answer["latencies"]["forward"] = Timed.seconds
        return file, answer

class StockApp(MONAILabelApp):
    def init_infers(self):
        return {{"organ": Organ()}}
"""


def make_case() -> tuple[Volume, np.ndarray]:
    """A smooth organ with a tumor in it, with noise, and its label."""
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.normal(size=SHAPE), 12)
    organ = smooth > np.quantile(smooth, 0.92)
    inner = gaussian_filter(rng.normal(size=SHAPE), 5)
    tumor = organ & (inner > np.quantile(inner[organ], 0.8))
    label = organ.astype(np.int64) + tumor
    hu = np.array([40.0, 180.0, 100.0])[label] + rng.normal(0, 12, SHAPE)
    grid = Grid(SHAPE, np.diag([*SPACING_MM, 1.0]))
    return Volume(hu.round().astype(np.int16)[None], grid), label


def train(plan: Plan, image: Volume, label: np.ndarray) -> dict[str, torch.Tensor]:
    """Weights after a few steps, so that labels compress as well as real ones do."""
    network = build_network(plan, seed=0).train()
    low, high = WINDOW_HU
    x = torch.from_numpy((image.data.astype(np.float32) - low) / (high - low)).clamp(0, 1)[None]
    y = torch.from_numpy(label)[None]
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(TRAINING_STEPS):
        corner = [slice(o, o + 64) for o in np.random.default_rng().integers(0, (64, 64, 1))]
        here = (slice(None), slice(None), *corner)
        output = network(x[here])
        logits = output[0] if isinstance(output, (tuple, list)) else output
        loss = torch.nn.functional.cross_entropy(logits, y[(slice(None), *corner)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.state_dict()


def prepare(folder: Path) -> tuple[Site, Path]:
    """A site with one case and a published model, and the model's bundle."""
    write_text(folder / "organ.toml", TASK)
    settings = SiteSettings(name="bench", task=str(folder / "organ.toml"), data="synthetic")
    site = create_site(folder / "site", settings)
    image, label = make_case()
    add_case(
        site.folder,
        task=site.task,
        case_id="case0",
        patient_id="patient0",
        split="train",
        channels={"ct": image},
    )
    plan = make_plan(site.task)
    lineage = Lineage(
        study="bench",
        arm="manual",
        seed=0,
        sites=("elsewhere",),
        data=("synthetic",),
        train_images={},
    )
    state = train(plan, image, label)
    write_bundle(folder / "bundle", plan=plan, state=state, lineage=lineage, card="# Bench\n")
    publish(folder / "bundle", site)
    return load_site(site.folder), folder / "bundle"


@contextlib.contextmanager
def stock_server(folder: Path, *, bundle: Path, images: Path, port: int) -> Iterator[int]:
    """A stock MONAI Label server of a minimal app; yields its process id."""
    low, high = WINDOW_HU
    write_text(folder / "app/main.py", STOCK_APP.format(bundle=str(bundle), low=low, high=high))
    command = (
        *(sys.executable, "-m", "monailabel.main", "start_server", "--host", "127.0.0.1"),
        *("--app", str(folder / "app"), "--studies", str(images), "--port", str(port)),
    )
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",
    }
    with (
        (folder / "stock.log").open("wb") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder) as process,
    ):
        try:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"http://127.0.0.1:{port}/info/", timeout=30).is_success:
                        break
                if process.poll() is not None:
                    sys.exit((folder / "stock.log").read_text()[-2000:])
                time.sleep(0.2)
            yield process.pid
        finally:
            process.terminate()


def ask(http: httpx.Client) -> tuple[float, dict[str, float], bytes]:
    """Seconds of one proposal, the server's own measurements, and the label's file."""
    wishes = {"result_extension": ".nrrd", "result_dtype": "uint8"}
    started = time.perf_counter()
    answer = http.post(
        "/infer/organ",
        params={"image": "case0"},
        files={"params": (None, json.dumps(wishes))},
    ).raise_for_status()
    seconds = time.perf_counter() - started
    boundary = answer.headers["content-type"].split("boundary=")[1].encode()
    parts = [part.split(b"\r\n\r\n", 1)[-1] for part in answer.content.split(b"--" + boundary)]
    return seconds, json.loads(parts[1])["latencies"], parts[2].removesuffix(b"\r\n")


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and its children."""
    process = psutil.Process(pid)
    return sum(sum(one.cpu_times()[:2]) for one in (process, *process.children(recursive=True)))


def measure_load(url: str, *, seconds: float) -> tuple[list[float], int]:
    """Seconds of each /info/ while clients infer without pause, and their number of proposals."""
    end = time.monotonic() + seconds
    counts = [0] * N_CLIENTS

    def infer(client: int) -> None:
        with httpx.Client(base_url=url, timeout=300, trust_env=False) as http:
            while time.monotonic() < end:
                ask(http)
                counts[client] += 1

    threads = [threading.Thread(target=infer, args=(client,)) for client in range(N_CLIENTS)]
    for thread in threads:
        thread.start()
    taken = []
    with httpx.Client(base_url=url, timeout=300, trust_env=False) as http:
        while time.monotonic() < end:
            started = time.perf_counter()
            http.get("/info/").raise_for_status()
            taken.append(time.perf_counter() - started)
            time.sleep(0.1)
    for thread in threads:
        thread.join()
    return taken, sum(counts)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15, help="proposals of each server")
    parser.add_argument("--load-seconds", type=float, default=20.0, help="duration of the load")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or auto; ours only")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        site, bundle = prepare(folder)
        (folder / "images").mkdir()
        (folder / "images/case0.nii.gz").write_bytes(
            (site.folder / "images/case0.nii.gz").read_bytes()
        )
        ours = stack.enter_context(
            running_server(site.folder, listen=Listen(), reader="ann", device=arguments.device)
        )
        port = int(ours.url.rsplit(":", 1)[1]) + 1
        stock_pid = stack.enter_context(
            stock_server(folder, bundle=bundle, images=folder / "images", port=port)
        )
        servers = {
            "stock": (f"http://127.0.0.1:{port}", stock_pid),
            "ours": (ours.url, ours.process.pid),
        }
        clients = {
            name: stack.enter_context(httpx.Client(base_url=url, timeout=300, trust_env=False))
            for name, (url, _) in servers.items()
        }
        for client in clients.values():
            for _ in range(2):  # the first proposals load and compile
                ask(client)
        walls: dict[str, list[float]] = {name: [] for name in servers}
        beyond: dict[str, list[float]] = {name: [] for name in servers}
        cpu: dict[str, float] = dict.fromkeys(servers, 0.0)
        steps: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
        labels = {}
        for _ in range(arguments.repeats):
            for name, client in clients.items():
                before = cpu_seconds(servers[name][1])
                wall, latencies, content = ask(client)
                cpu[name] += cpu_seconds(servers[name][1]) - before
                walls[name].append(wall)
                beyond[name].append(wall - latencies["forward"])
                steps[name].append(latencies)
                (folder / f"{name}.nrrd").write_bytes(content)
                labels[name] = read_label(folder / f"{name}.nrrd").data
        print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {SHAPE} voxels")
        print(f"{'':8}{'wall ms':>10}{'forward':>10}{'beyond':>10}{'best':>8}{'CPU ms':>10}")
        for name in servers:
            wall, rest = statistics.median(walls[name]), statistics.median(beyond[name])
            forward = statistics.median(one["forward"] for one in steps[name])
            figures = (wall, forward, rest, min(beyond[name]), cpu[name] / arguments.repeats)
            print(
                f"{name:8}"
                + "".join(
                    f"{1e3 * x:{w}.0f}" for x, w in zip(figures, (10, 10, 10, 8, 10), strict=True)
                )
            )
        medians = {name: statistics.median(values) for name, values in beyond.items()}
        print(f"beyond the network: stock / ours = {medians['stock'] / medians['ours']:.1f}")
        for name in servers:
            scalars = {k for k, v in steps[name][0].items() if isinstance(v, float)}
            parts = {k: statistics.median(s[k] for s in steps[name]) for k in sorted(scalars)}
            print(f"{name}: " + ", ".join(f"{k} {1e3 * v:.0f} ms" for k, v in parts.items()))
        same = float((labels["ours"] == labels["stock"]).mean())
        print(f"same label in {same:.4%} of voxels, {(labels['ours'] > 0).mean():.1%} foreground")
        if arguments.load_seconds > 0:
            taken, n = measure_load(ours.url, seconds=arguments.load_seconds)
            p50, p95 = np.percentile(taken, [50, 95])
            print(
                f"/info/ under load: p50 {1e3 * p50:.0f} ms, p95 {1e3 * p95:.0f} ms, most "
                f"{1e3 * max(taken):.0f} ms, n {len(taken)}; {N_CLIENTS} clients got "
                f"{n / arguments.load_seconds:.1f} proposals/s"
            )


if __name__ == "__main__":
    main()
