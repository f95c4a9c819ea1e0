"""The report in a real browser: nothing asked of the network, no error, and volumes to scroll."""

from __future__ import annotations

import io
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from segfed.report.home import write_home_report
from segfed.report.pdf import print_page
from segfed.report.write import CARD_FILE, write_report
from tests.browser_samples import CHROMIUM, address_of, start_browser
from tests.report_samples import write_run
from tests.test_report_home import SITES

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

STATE = "document.getElementById('viewer').dataset.state"
STATUS = "document.getElementById('viewer-status').textContent"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    run = write_run(
        tmp_path_factory.mktemp("run"),
        dice=lambda model, site, case, structure: 0.7,  # noqa: ARG005
        cases={"a": 1, "b": 1},
        external={},
        with_volumes=True,
    )
    write_report(run)
    return run / "report.html"


@pytest.fixture(scope="module")
def browser():
    with start_browser() as found:
        yield found


def colours(png):
    """How many pixels of a screenshot are blue, orange and grey."""
    r, g, b = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=int).transpose(2, 0, 1)
    blue = (abs(r - 90) < 12) & (abs(g - 169) < 12) & (abs(b - 255) < 12)
    orange = (abs(r - 255) < 12) & (abs(g - 152) < 12) & (abs(b - 56) < 12)
    grey = (r == g) & (g == b) & (r > 30) & (r < 220)
    return {"blue": blue.sum(), "orange": orange.sum(), "greys": len(np.unique(r[grey]))}


def test_a_case_opens_scrolls_by_keyboard_and_closes(browser, page):
    browser.open(address_of(page, "open-case-0"))
    browser.wait(f"{STATE} != 'loading'")
    browser.wait("document.activeElement.id == 'viewer-slice'")

    seen = colours(browser.screenshot())
    first = browser.evaluate(STATUS)
    browser.press("ArrowRight")
    second = browser.evaluate(STATUS)
    browser.press("Escape")

    assert browser.evaluate(STATE) == "shown"
    assert seen["blue"] > 300  # the contours of both arms
    assert seen["orange"] > 300
    assert seen["greys"] > 50  # and the image with its noise
    number, of = (int(word) for word in first.split() if word.isdigit())
    assert second == f"Slice {number + 1} of {of}"
    assert not browser.evaluate("document.getElementById('viewer').open")
    assert all(r.startswith(("file:", "data:", "blob:", "about:")) for r in browser.requests)
    assert browser.complaints == []


def test_a_page_without_its_folder_says_so_and_keeps_its_pictures(browser, page, tmp_path):
    alone = tmp_path / "report.html"
    shutil.copyfile(page, alone)

    browser.open(address_of(alone, "open-case-0"), dark=True)
    browser.wait(f"{STATE} != 'loading'")

    assert browser.evaluate(STATE) == "failed"
    assert "keep the folder together with it" in browser.evaluate(STATUS)
    browser.complaints.clear()  # the browser's own line about the missing file


def test_every_table_can_be_saved_as_it_is_printed(browser, page):
    browser.open(address_of(page))
    # Catch the file instead of downloading it.
    browser.evaluate(
        "window.saved = []; URL.createObjectURL = (b) => { saved.push(b); return '#'; }; 0"
    )

    browser.evaluate("document.querySelectorAll('.csv').forEach((b) => b.click())")
    texts = browser.evaluate("Promise.all(saved.map((b) => b.text()))")

    assert len(texts) == browser.evaluate("document.querySelectorAll('table').length") > 5
    header, first, *_ = texts[0].lstrip("\ufeff").split("\r\n")
    assert header.startswith('"Regime","Labels","kidney and mass"')
    assert first.startswith('"untrained"')
    assert browser.complaints == []


def test_the_model_card_opens_by_itself_and_fits_the_window(browser, page):
    browser.open(address_of(page.with_name(CARD_FILE)))

    n_items = browser.evaluate("document.querySelectorAll('.sheet th[scope=row]').length")

    assert n_items > 44 + 10  # the items of both checklists, and those of the card
    assert browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert all(r.startswith(("file:", "data:", "blob:", "about:")) for r in browser.requests)
    assert browser.complaints == []


def test_the_page_is_printed_with_everything_unfolded(page, tmp_path):
    printed = print_page(page, tmp_path / "report.pdf", browser=CHROMIUM)

    content = printed.read_bytes()
    assert content.startswith(b"%PDF-")
    # Folded up, the page takes less: the tables of each structure and all hashes are folded.
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 6


def test_the_report_of_an_evaluation_at_home_opens_by_itself(browser, tmp_path):
    write_home_report(tmp_path, SITES, margin=0.02)

    for dark in (False, True):
        browser.open(address_of(tmp_path / "report.html"), dark=dark)

        assert browser.evaluate("document.querySelectorAll('.csv').length") >= 4
        assert browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert all(r.startswith(("file:", "data:", "blob:", "about:")) for r in browser.requests)
    assert browser.complaints == []
