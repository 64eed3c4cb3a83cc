"""Play administrator, browser and MCP client of our gateway for one scenario of the public conformance suite.

Started like `adapter.py`. The suite's server is configured behind the gateway, and what the suite sees of authorization
comes from the site: first because a program is let in by our authorization server, later because a call needs more.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

import unattended
from adapter import SCENARIO, SITE, McpCalls, Product
from consent import ScriptedPerson

_MOST_LINKS = 4


def main() -> int:
    url, version = sys.argv[-1], os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "2025-11-25")
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    product = Product()
    settings, identity = unattended.settings_for(SCENARIO, context, product.configure)
    slug = product.configure(url, gateway_enabled=True, **settings)
    if identity:
        product.connection(slug, **identity)
    person = ScriptedPerson(SITE, product.browser)
    token = person.token(f"{SITE}/mcp/{slug}", client_id=os.environ["ADAPTER_CLIENT"])
    calls = McpCalls(f"{SITE}/mcp/{slug}", version)
    return 0 if all(_call(calls, product, person, slug, token, step) for step in calls.plan()) else 1


def _call(
    calls: McpCalls, product: Product, person: ScriptedPerson, slug: str, token: str, step: tuple[str, dict[str, Any]]
) -> bool:
    for _ in range(_MOST_LINKS):
        answer = calls.send(*step, credentials={"Authorization": f"Bearer {token}"})
        link = re.search(rf"{re.escape(SITE)}/connect/[^\s\"\\]+", answer.text)
        if link is not None:
            person.connect(link[0])
        elif "another sign-in service" in answer.text:
            product.approve_issuer_change(slug)
        else:
            return answer.ok and '"error"' not in answer.text and '"isError":true' not in answer.text
    print(f"{SCENARIO}: gave up: {answer.text[:300]}", file=sys.stderr)
    return False


if __name__ == "__main__":
    sys.exit(main())
