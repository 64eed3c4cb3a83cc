"""The site's settings with access tokens that end after seconds, so that a test sees what programs do then."""

from __future__ import annotations

from mcp_oauth_site import settings

ACCESS_TOKEN_SECONDS = 5
globals().update({name: value for name, value in vars(settings).items() if name.isupper()})
AUTHSERVER = {**settings.AUTHSERVER, "access_token_seconds": ACCESS_TOKEN_SECONDS}
