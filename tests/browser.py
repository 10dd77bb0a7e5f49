"""A real browser without a screen: Debian's chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = (
    Path(__file__).parent.parent / ".runtimes" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium (Debian's package); .ci/run installs it"
)
needs_axe = pytest.mark.skipif(
    not AXE.exists(), reason="axe-core is not installed; .ci/runtimes does that"
)


@contextmanager
def opened(path: Path, width: int = 1600, scheme: str = "light") -> Iterator[Page]:
    """A page of the disk; whatever its console or scripts complain of fails the test."""
    assert scheme in {"light", "dark"}
    complaints: list[str] = []
    with sync_playwright() as playwright:
        # Containers' root has no user namespaces to make a sandbox of.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.extend(_elsewhere(request.url)))
        page.goto(path.as_uri())
        yield page
        browser.close()
    assert not complaints


def _elsewhere(url: str) -> list[str]:
    return [] if url.startswith("file:") else [f"asked for {url}"]
