"""A case whose channels do not belong together is refused by name."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from segfed.errors import CaseError, GeometryError
from segfed.sites import Case, SiteSettings, add_case, check_intact, create_site
from segfed.sites.images import hash_image
from segfed.volumes import Volume, write_image
from tests.sites_samples import SHAPE, make_grid, make_image, make_site


@pytest.fixture
def brain(tmp_path) -> Case:
    site = create_site(tmp_path / "south", SiteSettings(name="south", task="brain_tumor"))
    return add_case(
        site.folder,
        task=site.task,
        case_id="b1",
        patient_id="p1",
        split="train",
        channels={channel: make_image(seed) for seed, channel in enumerate(site.task.channels)},
    )


def with_channel(case: Case, channel: str, image: Volume) -> Case:
    """The case as a careless import would have listed it: the hash fits, the image does not."""
    write_image(image, case.channels[channel])
    return dataclasses.replace(case, image_sha256=hash_image(case.channels.values()))


def part_of_the_grid(start: int, stop: int) -> Volume:
    """An image that shows something between two planes along I only."""
    data = np.zeros((1, *SHAPE), dtype=np.float32)
    data[0, start:stop] = 100
    return Volume(data, make_grid())


def test_a_whole_case_passes(brain):
    check_intact(brain)
    check_intact(brain)


def test_every_missing_channel_is_named(brain):
    brain.channels["t2f"].unlink()
    brain.channels["t1n"].unlink()

    with pytest.raises(CaseError, match=r"b1: channel .*t1n \(.*t2f \(.* is missing"):
        check_intact(brain)


def test_an_altered_channel_is_refused(brain):
    check_intact(brain)
    write_image(make_image(9), brain.channels["t2w"])

    with pytest.raises(CaseError, match=r"b1: the image has the hash"):
        check_intact(brain)


def test_a_channel_on_another_grid_is_named(brain):
    shifted = Volume(make_image(3).data, make_grid(shift_mm=1.0))

    with pytest.raises(GeometryError, match=r"channel t2w \(.*b1"):
        check_intact(with_channel(brain, "t2w", shifted))


def test_an_empty_channel_is_named(brain):
    empty = Volume(np.zeros((1, *SHAPE), dtype=np.float32), make_grid())

    with pytest.raises(CaseError, match=r"b1: channel t2f .* holds the value 0 in every voxel"):
        check_intact(with_channel(brain, "t2f", empty))


def test_a_channel_of_another_place_is_named(brain):
    # Planes 0 to 3 and 2 to 5: two of the four planes of each lie in the other, exactly half.
    first = next(iter(brain.channels))
    case = with_channel(brain, first, part_of_the_grid(0, 4))
    check_intact(with_channel(case, "t2f", part_of_the_grid(2, 6)))

    # Planes 3 to 6: one of four.
    with pytest.raises(CaseError, match=r"b1: only 25% of what channel t2f"):
        check_intact(with_channel(case, "t2f", part_of_the_grid(3, 7)))


def test_fewer_slices_in_one_channel_are_no_fault(brain):
    check_intact(with_channel(brain, "t2f", part_of_the_grid(1, 3)))


def test_one_channel_needs_no_other(tmp_path):
    check_intact(make_site(tmp_path).case("case0"))
