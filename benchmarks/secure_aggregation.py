"""Seconds, bytes and error of one secure sum, by the number of sites.

    python benchmarks/secure_aggregation.py [--parameters 4800000] [--sites 3 6 12]

One site drops out after the keys were shared, which costs the server the most. All sites and the
server run one after the other in this process; messages and their transport are left out.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from segfed.privacy import (
    FixedPoint,
    Group,
    KeyRequest,
    MaskRequest,
    PublicKeys,
    ShareReply,
    ShareRequest,
    SiteSession,
    UnmaskReply,
    UnmaskRequest,
    clip,
    euclidean_norm,
    session_context,
    with_masks,
)

SESSION, CLIP_NORM, MAX_COUNT = "0" * 32, 5.0, 1000


def measure(n_sites: int, n_parameters: int, folder: Path) -> str:
    """One line of the table."""
    rng = np.random.default_rng(0)
    names = [f"site{index:02d}" for index in range(n_sites)]
    counts = {name: int(rng.integers(1, 100)) for name in names}
    updates = {
        name: clip({"w": rng.normal(size=n_parameters).astype(np.float32)}, norm=CLIP_NORM)
        for name in names
    }
    threshold = n_sites // 2 + 1
    sites = {
        name: SiteSession(
            path=folder / f"{name}.json",
            site=name,
            context="bench/1",
            threshold=threshold,
            clip_norm=CLIP_NORM,
            max_count=MAX_COUNT,
        )
        for name in names
    }
    started = time.perf_counter()
    begin = KeyRequest(session=SESSION).model_dump_json().encode()
    keys = {
        name: PublicKeys.model_validate_json(site.begin(begin, round_number=1, update=b"u"))
        for name, site in sites.items()
    }
    request = ShareRequest(session=SESSION, keys=keys).model_dump_json().encode()
    sealed = {
        name: ShareReply.model_validate_json(site.share(request)).shares
        for name, site in sites.items()
    }
    key_seconds = (time.perf_counter() - started) / n_sites
    survivors, total, mask_seconds = names[:-1], np.zeros(n_parameters, np.uint64), []
    for name in survivors:
        shares = {other: sealed[other][name] for other in names if other != name}
        body = MaskRequest(session=SESSION, shares=shares).model_dump_json().encode()
        started = time.perf_counter()
        total += sites[name].mask(body, update=updates[name], stored=b"u", count=counts[name])["w"]
        mask_seconds.append(time.perf_counter() - started)
    unmask = UnmaskRequest(session=SESSION, survivors=tuple(survivors), dropped=(names[-1],))
    body = unmask.model_dump_json().encode()
    replies = {
        name: UnmaskReply.model_validate_json(sites[name].unmask(body)) for name in survivors
    }
    started = time.perf_counter()
    group = Group(session_context("bench/1", SESSION), keys, threshold)
    left = group.recover_masks(replies, survivors=survivors, dropped=names[-1:])
    found = FixedPoint(CLIP_NORM, MAX_COUNT, n_sites).decode(
        with_masks({"w": total}, left, sign=-1), count=sum(counts[name] for name in survivors)
    )["w"]
    server_seconds = time.perf_counter() - started
    expected = np.average(
        np.stack([updates[name]["w"].astype(np.float64) for name in survivors]),
        axis=0,
        weights=[counts[name] for name in survivors],
    )
    error = euclidean_norm({"w": found - expected}) / euclidean_norm({"w": expected})
    return (
        f"{n_sites:>5} {key_seconds:>13.2f} {statistics.median(mask_seconds):>13.2f} "
        f"{server_seconds:>15.2f} {8 * n_parameters / 1e6:>10.1f} {error:>10.1e}"
    )


def main() -> None:
    """Print one line for each number of sites."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parameters", type=int, default=4_800_000)
    parser.add_argument("--sites", type=int, nargs="+", default=[3, 6, 12])
    arguments = parser.parse_args()
    print("sites  site: keys s  site: mask s  server: sum s  MB upload  rel. error")
    for n_sites in arguments.sites:
        with tempfile.TemporaryDirectory() as folder:
            print(measure(n_sites, arguments.parameters, Path(folder)))


if __name__ == "__main__":
    main()
