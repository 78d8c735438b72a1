"""A real browser without a window, for the pages of reports."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def opened(file: Path, **options: Any) -> Iterator[Page]:
    """The page in Chromium; whatever it complains of, or asks the network for, fails the test in the end."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: `apt-get install chromium` brings it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(**options)
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: complaints.append(asked.url) if not asked.url.startswith(LOCAL) else None)
        page.goto(file.absolute().as_uri())
        yield page
        browser.close()
        assert complaints == []


LOCAL = ("file:", "data:")
