"""From a source's label values to the task's."""

from __future__ import annotations

import numpy as np
import pytest

from transforms import remap_label


def test_values_are_replaced_all_at_once():
    # 1 and 2 change places, which a replacement one after the other would merge.
    label = np.array([[0, 1, 2], [4, 2, 0]], dtype=np.int16)

    remapped = remap_label(label, {1: 2, 2: 1, 4: 3})

    assert remapped.tolist() == [[0, 2, 1], [3, 1, 0]]
    assert remapped.dtype == np.uint8
    assert label.tolist() == [[0, 1, 2], [4, 2, 0]]


def test_background_stays_unless_the_table_says_otherwise():
    assert remap_label(np.array([0, 1]), {1: 5}).tolist() == [0, 5]
    assert remap_label(np.array([0, 1]), {0: 1, 1: 0}).tolist() == [1, 0]


def test_all_unknown_values_are_named():
    with pytest.raises(
        ValueError, match=r"values \[3, 7\]; expected only \[0, 1\].*declared source"
    ):
        remap_label(np.array([0, 7, 1, 3, 7]), {1: 1})


def test_a_table_with_values_that_no_label_can_have_is_refused():
    with pytest.raises(ValueError, match=r"found the table \{1: 256\}; expected new values from 0"):
        remap_label(np.array([0, 1]), {1: 256})


def test_the_memory_order_of_the_file_is_kept():
    label = np.asfortranarray(np.ones((3, 4, 5), dtype=np.uint8))

    assert remap_label(label, {1: 2}).flags.f_contiguous
