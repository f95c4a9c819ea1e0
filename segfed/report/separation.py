"""Whether test images are among those that models learned from or were chosen by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segfed.files import sha256_json
from segfed.study.models import UNTRAINED
from segfed.study.records import StudyRecord, read_inputs


def image_separation(run_folder: Path, study: StudyRecord) -> dict[str, Any]:
    """Counts of different images by use, those in testing and in another use, and proofs.

    A model's inputs lie beside it as hashes of images. The SHA-256 over all hashes of a use, in
    their order, lets somebody who has the lists check that these are the ones that were compared.

    Returns:
        ``is_shown`` tells whether every trained model has left its inputs and none of them is a
        test image; ``in_both`` lists test images that a model has seen.
    """
    used: dict[str, set[str]] = {"train": set(), "validation": set()}
    unrecorded = []
    trained = [model for model in study.models if model.regime not in (UNTRAINED, "ensemble")]
    for model in trained:
        try:
            inputs = read_inputs(run_folder / model.model_id.folder)
        except FileNotFoundError:
            unrecorded.append(str(model.model_id))
            continue
        for site in inputs.values():
            for use, images in used.items():
                images.update(image for image, _ in site[use])
    test = {case.image_sha256 for case in study.test_cases}
    in_both = sorted(test & (used["train"] | used["validation"]))
    return {
        "is_shown": bool(trained) and not unrecorded and not in_both,
        "n_images": {use: len(images) for use, images in used.items()} | {"test": len(test)},
        "sha256_of_hashes": {
            use: sha256_json(sorted(images)) for use, images in (*used.items(), ("test", test))
        },
        "in_both": in_both,
        "models_without_inputs": unrecorded,
    }
