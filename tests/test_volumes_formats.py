"""The file name chooses the format."""

from __future__ import annotations

from pathlib import Path

import pytest

from segfed.errors import VolumeError
from segfed.volumes import nifti, nrrd
from segfed.volumes.formats import format_of


@pytest.mark.parametrize(
    ("name", "module"),
    [("a.nii", nifti), ("a.nii.gz", nifti), ("A.NII.GZ", nifti), ("a.b.seg.nrrd", nrrd)],
)
def test_the_suffix_chooses_the_format(name, module):
    assert format_of(Path(name)) is module


@pytest.mark.parametrize("name", ["a.mha", "a.gz", "a", "nii.gz.txt"])
def test_another_suffix_is_refused_with_the_known_ones(name):
    with pytest.raises(VolumeError, match=rf"{name}; expected .*\.nii\.gz, \.nii, \.nrrd.*Convert"):
        format_of(Path("folder") / name)
