"""Which scope opens which tool and resource."""

from __future__ import annotations

from typing import Final

READ: Final = "notes:read"
WRITE: Final = "notes:write"
PROFILE: Final = "profile"
# What a client is told to ask for. `offline_access` is between the client and the authorization server, and not here.
ALL: Final = [READ, WRITE, PROFILE]

OF_TOOL: Final = {
    "get_user_profile": PROFILE,
    "create_secure_note": WRITE,
    "list_secure_notes": READ,
    "get_api_usage": PROFILE,
}
PROFILE_URI: Final = "user://profile"
NOTE_URI: Final = "user://notes/{note_id}"


def of_resource(uri: str) -> str:
    """Return the scope that reading `uri` takes."""
    return PROFILE if uri == PROFILE_URI else READ
