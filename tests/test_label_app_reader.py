"""Who asks."""

from __future__ import annotations

import contextvars
from concurrent.futures import ThreadPoolExecutor

import pytest

from label_app.reader import Reader, asking, current_reader

ANN = Reader("ann", "annotator")


def test_the_reader_is_known_within_a_request_only():
    with asking(ANN):
        assert current_reader() == ANN

    with pytest.raises(LookupError):
        current_reader()


def test_a_thread_knows_the_reader_if_it_copies_the_context_and_nobody_otherwise():
    with ThreadPoolExecutor(1) as pool, asking(ANN):
        context = contextvars.copy_context()

        assert pool.submit(context.run, current_reader).result() == ANN
        with pytest.raises(LookupError):
            pool.submit(current_reader).result()
