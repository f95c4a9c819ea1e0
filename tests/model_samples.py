"""A published model without a training: the network as it is before its first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segfed.engine import Lineage, build_network, make_plan, write_bundle
from segfed.sites import Site
from segfed.study import publish

SMALL_PLAN = {"patch_voxels": [8, 8, 4]}


def publish_untrained(
    site: Site,
    folder: Path,
    *,
    seed: int = 0,
    click_label: str | None = None,
    trained_on: Sequence[str] = (),
    plan: Mapping[str, Any] = SMALL_PLAN,
    **lineage: Any,
) -> str:
    """Publish an untrained network at a site; returns its hash.

    Args:
        site: The site.
        folder: Its bundle is kept below.
        seed: Of the weights.
        click_label: The label that its clicks correct, if it takes clicks.
        trained_on: Hashes of images of the site that its lineage names.
        plan: Changes to the task's plan.
        lineage: What else its lineage says.
    """
    changed = make_plan(site.task, dict(plan)).model_copy(update={"click_label": click_label})
    fields = {
        "study": "warm-up",
        "arm": "manual",
        "seed": seed,
        "sites": (site.name,),
        "data": ("synthetic",),
        "train_images": {site.name: tuple(trained_on)},
    }
    bundle = folder / f"bundle-{click_label}-{seed}"
    sha256 = write_bundle(
        bundle,
        plan=changed,
        state=build_network(changed, seed=seed).state_dict(),
        lineage=Lineage(**(fields | lineage)),
        card="# Untrained\n",
    )
    publish(bundle, site)
    return sha256
