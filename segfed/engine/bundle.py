"""Trained models as folders in the layout of a MONAI bundle, which ``monai.bundle`` can run."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from segfed.engine.bundle_configs import inference, metadata
from segfed.engine.drift import InputRange
from segfed.engine.network import UNet, build_network
from segfed.engine.plan import Plan, read_plan
from segfed.engine.weights import State, check_weights, read_weights, write_weights
from segfed.errors import WeightsError
from segfed.files import sha256_file, write_json, write_text
from segfed.protocol import ArmChoice
from segfed.settings import Settings, validated

METADATA = Path("configs/metadata.json")
INFERENCE = Path("configs/inference.json")
WEIGHTS = Path("models/model.safetensors")
CARD = Path("model_card.md")
LINEAGE = Path("lineage.json")


class Lineage(Settings):
    """Where a model comes from: enough to tell whether it saw a case."""

    study: str
    arm: ArmChoice
    seed: int
    round: int | None = None
    """Round of the federation; None where the model was not federated."""

    sites: tuple[str, ...]
    """Sites whose cases it was trained on."""

    data: tuple[Literal["real", "synthetic", "rendered"], ...]
    """Kinds of data among them."""

    train_images: dict[str, tuple[str, ...]]
    """Per site, SHA-256 of every image that it was trained or chosen on."""

    parent: str | None = None
    """SHA-256 of the weights that training started from, where it was not from random ones."""

    inputs: InputRange | None = None
    """What its training images look like; None in models of a version that did not say."""

    def saw(self, image_sha256: str) -> bool:
        """Whether an image was among those that the model learned from."""
        return any(image_sha256 in images for images in self.train_images.values())


@dataclass(frozen=True)
class Model:
    """A trained network, ready to predict."""

    plan: Plan
    network: UNet
    sha256: str
    """Of the weights' file; the model's identity."""

    lineage: Lineage


def write_bundle(folder: Path, *, plan: Plan, state: State, lineage: Lineage, card: str) -> str:
    """Write a model's bundle, which appears whole or not at all.

    Args:
        folder: The bundle's folder; an existing bundle there is replaced.
        plan: The plan that the network was built by.
        state: Its weights.
        lineage: Where they come from.
        card: The model card, in Markdown.

    Returns:
        SHA-256 of the weights' file.

    Raises:
        WeightsError: If the weights do not fit the plan.
    """
    check_weights(state, build_network(plan, seed=0), source="the caller")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder.parent) as temporary:
        staged = Path(temporary) / "new"
        sha256 = write_weights(staged / WEIGHTS, state)
        write_json(staged / METADATA, metadata(plan, weights_sha256=sha256))
        write_json(staged / INFERENCE, inference(plan))
        write_json(staged / LINEAGE, lineage.model_dump(mode="json"))
        write_text(staged / CARD, card)
        if folder.exists():
            # A folder cannot be replaced in one step: move the old one aside first.
            folder.rename(Path(temporary) / "old")
        staged.rename(folder)
    return sha256


def load_bundle(folder: Path) -> Model:
    """The model in a bundle that ``write_bundle`` wrote.

    Raises:
        WeightsError: If a part is missing or damaged, or the weights are not those that the
            bundle was written with.
        ConfigError: If plan or lineage break a rule.
    """
    description = _read_json(folder / METADATA)
    lineage = validated(_read_json(folder / LINEAGE), Lineage, source=str(folder / LINEAGE))
    plan = bundle_plan(folder)
    state = read_weights(folder / WEIGHTS)
    sha256, expected = sha256_file(folder / WEIGHTS), description.get("weights_sha256")
    if sha256 != expected:
        raise WeightsError(
            f"{folder / WEIGHTS} has the hash {sha256[:12]}, but the bundle was written with "
            f"{str(expected)[:12]}. Publish or copy the bundle again."
        )
    network = build_network(plan, seed=0)
    check_weights(state, network, source=str(folder / WEIGHTS))
    network.load_state_dict(state)
    return Model(plan, network.eval(), sha256, lineage)


def bundle_card(folder: Path) -> str:
    """The model card in a bundle, in Markdown.

    Raises:
        WeightsError: If it is missing.
    """
    try:
        return (folder / CARD).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise WeightsError(
            f"{folder} has no {CARD}; expected the card that `segfed model publish` writes. "
            "Publish or copy the bundle again."
        ) from error


def bundle_plan(folder: Path) -> Plan:
    """The plan in a bundle, without its network.

    Raises:
        WeightsError: If its file is missing or damaged.
        ConfigError: If the plan breaks a rule.
    """
    return read_plan(_read_json(folder / METADATA).get("segfed_plan", {}))


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a bundle."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise WeightsError(
            f"{path} is missing or not JSON ({error}); expected it in a model's folder. Give the "
            "one that `segfed model export RUN --out FOLDER` writes, or write it or publish the "
            "model again."
        ) from error
    if not isinstance(content, dict):
        raise WeightsError(
            f"{path} holds a JSON {type(content).__name__}, expected an object. Publish the model "
            "again."
        )
    return content
