"""The pages of docs/ as MkDocs renders them."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import fcnseg

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rendered site. A link that leads nowhere, or a page that is in no menu, fails."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_every_page_is_rendered(site: Path) -> None:
    assert {page.stem for page in site.glob("*.html")} == {page.stem for page in (ROOT / "docs").glob("*.md")} | {"404"}


@pytest.mark.slow
def test_every_public_name_is_documented_from_its_docstring(site: Path) -> None:
    text = (site / "api.html").read_text()
    documented = set(re.findall(r'id="fcnseg\.(\w+)"', text))
    assert documented == set(fcnseg.__all__)
    assert not re.search(r'id="fcnseg\.\w+\._(?!_call__)', text)


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    class Loaded(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            values = dict(attributes)
            if tag in ("script", "img", "iframe") or (tag == "link" and values.get("rel") != "canonical"):
                address = values.get("src") or values.get("href") or ""
                assert not address.startswith(("http:", "https:", "//")), address

    for page in site.glob("*.html"):
        Loaded().feed(page.read_text())
