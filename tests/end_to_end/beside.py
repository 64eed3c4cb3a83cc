"""`python -m tests.end_to_end.beside SLUG USER`: Django code that runs beside the site, in a process of its own.

Prints one JSON object: what it did, or the link that a person has to follow first.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import django

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def main() -> None:
    django.setup()
    from django.contrib.auth.models import User

    from oauthflow.client import AuthorizationRequired, ReauthorizationRequired, connect

    slug, user = sys.argv[1], User.objects.get(username=sys.argv[2])
    try:
        with connect(slug, user=user) as mcp:
            tools = [tool["name"] for tool in mcp.list_tools()]
            note = mcp.call_tool("create_secure_note", {"title": "Beside", "content": "World"})
        said: dict[str, object] = {"tools": tools, "title": note["structuredContent"]["title"]}
        said["subject"] = asyncio.run(_subject(slug, user=user))
    except AuthorizationRequired as error:
        reason = error.reason if isinstance(error, ReauthorizationRequired) else ""
        said = {"authorization_url": error.authorization_url, "expires_at": str(error.expires_at), "reason": reason}
    print(json.dumps(said))


async def _subject(slug: str, *, user: User) -> object:
    from oauthflow.client import aconnect

    async with aconnect(slug, user=user) as client:
        answer = await client.call_tool("get_user_profile", {})
        return (answer.structured_content or {})["subject"]


if __name__ == "__main__":
    main()
