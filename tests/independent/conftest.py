"""The browser of the browser tests, kept from everything that is not on this machine."""

from __future__ import annotations

from tests.browser.conftest import chromium, page

__all__ = ["chromium", "page"]
