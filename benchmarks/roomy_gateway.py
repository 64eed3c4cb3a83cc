"""The site's settings with room for as many streams and calls of few people as a benchmark makes."""

from __future__ import annotations

from mcp_oauth_site import settings

_MANY = 100_000
globals().update({name: value for name, value in vars(settings).items() if name.isupper()})
GATEWAY = {
    **settings.GATEWAY, "streams": _MANY, "streams_of_a_user": _MANY, "calls": _MANY, "calls_of_a_user": _MANY,
}  # fmt: skip
