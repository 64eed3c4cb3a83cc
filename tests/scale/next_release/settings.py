"""Settings of the next release."""

from __future__ import annotations

import importlib

_site = importlib.import_module("mcp_oauth_site.settings")
globals().update({name: getattr(_site, name) for name in dir(_site) if name.isupper()})
INSTALLED_APPS = [*_site.INSTALLED_APPS, "tests.scale.next_release"]
