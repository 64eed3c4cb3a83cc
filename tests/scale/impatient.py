"""The site's settings, but beat counts as silent after two seconds."""

from __future__ import annotations

import importlib

_site = importlib.import_module("mcp_oauth_site.settings")
globals().update({name: getattr(_site, name) for name in dir(_site) if name.isupper()})
BEAT_SILENT_SECONDS = 2.0
