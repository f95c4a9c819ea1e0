"""Augmentation follows from its seed alone, and leaves its inputs as they were."""

from __future__ import annotations

import torch

from transforms.augment import augment

SHAPE = (12, 16, 10)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def block() -> tuple[torch.Tensor, torch.Tensor]:
    """Eight samples of a bright block off the centre; the label is where it is bright."""
    labels = torch.zeros(8, *SHAPE, dtype=torch.uint8)
    labels[:, 4:9, 5:13, 3:6] = 2
    return labels[:, None].float(), labels


def test_the_same_seed_gives_the_same_batch_and_another_one_does_not():
    images, labels = block()
    drawn = [
        augment(images, labels, spacing_mm=(1, 1, 1), mirror_axes=(0,), generator=generator(seed))[
            0
        ]
        for seed in (3, 3, 4)
    ]

    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_the_inputs_stay_as_they_were():
    images, labels = block()
    before = images.clone(), labels.clone()

    augment(images, labels, spacing_mm=(1, 2, 3), mirror_axes=(0, 1), generator=generator(0))

    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])
