"""FastMCP's client as a program of its own, with little configured but the address of the server.

    python -m tests.browser.fastmcp_program MCP_URL TOOL ARGUMENTS [CLIENT]

Prints `open ADDRESS` where it would open a browser, then `tools …` and `answer …`; and those again for each line that
it is given.
"""

from __future__ import annotations

import asyncio
import json
import sys
import webbrowser

from fastmcp import Client
from fastmcp.client.auth import OAuth


class Printed(webbrowser.BaseBrowser):
    """Stands for the person's browser."""

    def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:
        print(f"open {url}", flush=True)
        return True


async def main(url: str, tool: str, arguments: dict[str, object], known_as: str) -> None:
    is_document = known_as.startswith("https://")
    auth = OAuth(client_metadata_url=known_as) if is_document else OAuth(client_id=known_as or None)
    async with Client(url, auth=auth) as client:
        while True:
            print("tools", *sorted(each.name for each in await client.list_tools()), flush=True)
            answer = await client.call_tool(tool, arguments)
            print("answer", json.dumps(answer.structured_content), flush=True)
            if not await asyncio.to_thread(sys.stdin.readline):
                return


if __name__ == "__main__":
    webbrowser.register("printed", None, Printed("printed"), preferred=True)
    asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), "".join(sys.argv[4:])))
