"""A tiny site with labelled cases, and a study of it, that the tests of `segfed.agent` share."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from segfed.agent import Agent
from segfed.agent.approval import decide
from segfed.agent.signing import sign
from segfed.engine import build_network, make_plan, read_plan, to_bytes
from segfed.protocol import Manifest, RoundRequest, Split, Verb
from segfed.sites import (
    Policy,
    Site,
    SiteSettings,
    add_case,
    create_site,
    load_site,
    load_task,
    submit_label,
)
from tests.sites_samples import make_image, make_label, write_task

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SPLITS: tuple[Split, ...] = ("train", "train", "validation")


def labelled_site(
    folder: Path,
    *,
    name: str = "north",
    splits: tuple[Split, ...] = SPLITS,
    external: bool = False,
    **policy: Any,
) -> Site:
    """A site of the bean task whose cases all have a manual label; its seed is its name."""
    settings = SiteSettings(
        name=name, task=str(write_task(folder)), external=external, policy=Policy(**policy)
    )
    site = create_site(folder / name, settings)
    for index, split in enumerate(splits):
        case_id = f"case{index}"
        add_case(
            site.folder,
            task=site.task,
            case_id=case_id,
            patient_id=f"patient{index}",
            split=split,
            channels={"t1": make_image(1000 * len(name) + index)},
        )
        site = load_site(site.folder)
        label = make_label(size=3 + index % 2)
        submit_label(site, case_id=case_id, label=label, origin="manual", reader="ann")
    return site


def bean_manifest(folder: Path, **changes: Any) -> Manifest:
    """A study of three rounds of two steps."""
    plan = make_plan(load_task(write_task(folder)))
    fields = {
        "study": "beans",
        "task": "bean",
        "plan": plan.model_dump(mode="json"),
        "arm": "manual",
        "train_split": "train",
        "seed": 3,
        "rounds": 3,
        "steps_per_round": 2,
    }
    return Manifest.model_validate(fields | changes)


def start_weights(manifest: Manifest) -> bytes:
    """The network before its first step."""
    return to_bytes(build_network(read_plan(manifest.plan), seed=manifest.seed).state_dict())


def job(manifest: Manifest, verb: Verb = "train", **changes: Any) -> RoundRequest:
    """The first round's request."""
    fields = {
        "manifest_sha256": manifest.sha256,
        "round": 1,
        "verb": verb,
        "weights": start_weights(manifest),
    }
    return RoundRequest(**(fields | changes))


def make_agent(site: Site, manifest: Manifest) -> Agent:
    """The site's agent, on the CPU, at noon."""
    return Agent(site, manifest, device=torch.device("cpu"), clock=lambda: NOON)


def make_owner(folder: Path, name: str = "owner") -> Path:
    """A study owner's private key."""
    path = folder / f"{name}.key"
    key = Ed25519PrivateKey.generate()
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def owner_public_key(key: Path) -> Path:
    """The public half of an owner's key, in a file beside it."""
    public = serialization.load_pem_private_key(key.read_bytes(), password=None).public_key()
    path = key.with_suffix(".pub")
    path.write_bytes(
        public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return path


def trust(site_folder: Path, key: Path) -> None:
    """Put an owner's public key where the site looks for those that it trusts."""
    path = site_folder / "study_owners" / f"{key.stem}.pub"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(owner_public_key(key).read_bytes())


def approve(site: Site, manifest: Manifest, *, key: Path, approved: bool = True) -> None:
    """The hospital's decision on a study that a trusted owner signed."""
    trust(site.folder, key)
    decide(site, sign(manifest, key), approved=approved, by="ann", at=NOON)
