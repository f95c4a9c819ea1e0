"""Text in NIfTI headers that might name a patient."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest

from segfed.volumes import read_image, text_in_nifti, write_without_text

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])
VOXELS = np.random.default_rng(0).integers(-900, 900, size=(5, 4, 3)).astype(np.int16)


def write(path, *, extension=None, behind=b"", name="", big_endian=False, **fields):
    """A file with some text in it."""
    header = nib.Nifti1Header(endianness=">" if big_endian else "<")
    header.set_data_dtype(np.int16)
    image = nib.Nifti1Image(VOXELS, AFFINE, header)
    for field, text in fields.items():
        image.header[field] = text
    if extension is not None:
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", extension))
    with path.open("wb") as file, gzip.GzipFile(name, "wb", fileobj=file, mtime=0) as stream:
        stream.write(image.to_bytes() + behind)
    return path


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"descrip": "DOE^JANE 1960-05-17"}, ("descrip",)),
        ({"aux_file": "doe.txt", "intent_name": "Jane"}, ("aux_file", "intent_name")),
        ({"db_name": "0012345", "big_endian": True}, ("db_name",)),
        ({"descrip": "12.05.1960"}, ("descrip",)),
        ({"descrip": "5.1.60"}, ("descrip",)),
        ({"extension": b"Jane Doe"}, ("extensions",)),
        ({"behind": b"Jane Doe"}, ("bytes behind the voxels",)),
        ({"name": "doe_jane.nii"}, ("gzip file name",)),
    ],
    ids=str,
)
def test_text_is_found_and_left_out_while_the_voxels_stay(tmp_path, content, found):
    source = write(tmp_path / "case.nii.gz", **content)

    assert text_in_nifti(source) == found

    write_without_text(source, tmp_path / "clean.nii.gz")
    assert text_in_nifti(tmp_path / "clean.nii.gz") == ()
    before, after = nib.load(source), nib.load(tmp_path / "clean.nii.gz")
    np.testing.assert_array_equal(np.asarray(after.dataobj), np.asarray(before.dataobj))
    assert after.get_data_dtype() == before.get_data_dtype()
    assert read_image(tmp_path / "clean.nii.gz").grid.matches(read_image(source).grid)
    content = gzip.decompress((tmp_path / "clean.nii.gz").read_bytes())
    assert not any(word in content for word in (b"oe", b"OE", b"Jane", b"1960", b"00123"))


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"descrip": "FSL5.0"},
        {"descrip": "6.0.1:e2e2a6c4"},
        {"descrip": "5.0.10", "aux_file": "none"},
        {"name": "case.nii"},
    ],
    ids=str,
)
def test_names_of_programs_and_the_files_own_name_are_no_such_text(tmp_path, content):
    assert text_in_nifti(write(tmp_path / "case.nii.gz", **content)) == ()


def test_the_same_source_gives_the_same_bytes_whatever_it_is_called(tmp_path):
    paths = [write(tmp_path / f"{name}.nii.gz", descrip="Jane", name=name) for name in "ab"]
    copies = []
    for path in paths:
        write_without_text(path, tmp_path / "copy.nii.gz")
        copies.append((tmp_path / "copy.nii.gz").read_bytes())

    assert copies[0] == copies[1]
