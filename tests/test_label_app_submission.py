"""Labels that come in over the network, on their way into the ledger."""

from __future__ import annotations

import gzip
import tracemalloc

import nibabel as nib
import numpy as np
import pytest

from label_app.submission import read_upload
from segfed.errors import GeometryError
from segfed.volumes import write_label
from tests.sites_samples import make_grid, make_label, make_site


@pytest.fixture
def site(tmp_path):
    return make_site(tmp_path)


def test_a_label_on_its_images_grid_is_read(site, tmp_path):
    write_label(make_label(), tmp_path / "label.nii.gz")

    read = read_upload(tmp_path / "label.nii.gz", site, site.case("case0"))

    np.testing.assert_array_equal(read.data, make_label().data)


def test_a_header_that_claims_gigabytes_is_refused_before_they_are_unpacked(site, tmp_path):
    header = nib.Nifti1Image(np.zeros((1, 1, 1), np.uint8), make_grid().affine).header
    header.set_data_shape((2000, 2000, 2000))
    path = tmp_path / "bomb.nii.gz"
    with gzip.open(path, "wb") as stream:
        stream.write(header.binaryblock + bytes(4))
        for _ in range(64):
            stream.write(bytes(2**20))

    tracemalloc.start()
    with pytest.raises(GeometryError, match="submitted label of case case0"):
        read_upload(path, site, site.case("case0"))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < 2**22
