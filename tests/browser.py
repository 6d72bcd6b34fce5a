"""A real browser for tests of pages that live: Debian's Chromium, driven by playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.services import need

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# A slow machine with a lot to do must not fail a test; whatever is there at once costs nothing of it.
PATIENCE_MS = 90_000


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser; its tabs do not know each other."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    need(program is not None, "no browser: chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Page]:
    """An empty tab with no cookies."""
    context = chromium.new_context(viewport={"width": 1100, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    yield context.new_page()
    context.close()
