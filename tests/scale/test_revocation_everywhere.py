"""What is given back at one web process is good at none of four a second later."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from tests.authserver.token_calls import code_form
from tests.product import free_port, wait_for
from tests.requirements import requirement

from .site import Site, ask, eventually

pytestmark = pytest.mark.scale
_SEED = """
import json
from django.contrib.auth.models import User
from authserver.models import ProtectedResource, hash_of_secret
from authserver.resources import api_resource
from oauthflow.protocol.secret import Secret
from tests.authserver.grants import SECRET, make_client, make_code, make_consent
team = ProtectedResource.objects.create(
    name="Team", resource="https://team.example/mcp", scopes={"team:read": "Read"},
    secret_hash=hash_of_secret(Secret(SECRET)),
)
user, program = User.objects.create_user("programs"), make_client()
codes = [
    make_code(make_consent(user, program, scope=scope, resource=resource))
    for scope, resource in (("team:read", team.resource), ("connections:read", api_resource()))
]
print(json.dumps({"resource": [str(team.pk), SECRET], "codes": codes}))
"""


@dataclass(frozen=True)
class Program:
    """Grants of one person to one program: `tokens` for somebody else's resource and for this site's own interface."""

    resource: tuple[str, str]
    tokens: tuple[dict[str, Any], dict[str, Any]]

    def is_good_at(self, web: str) -> tuple[bool, bool]:
        """Whether a process takes each of the two access tokens."""
        of_team, of_api = (token["access_token"] for token in self.tokens)
        said = requests.post(f"{web}/oauth/introspect", {"token": of_team}, auth=self.resource, timeout=20).json()
        return said["active"], ask(f"{web}/api/v1/connections", token=of_api).status == 200


@pytest.fixture
def webs(site: Site) -> Iterator[list[str]]:
    """Addresses of four web processes."""
    with ExitStack() as stack:
        more = []
        for name in ("web-3", "web-4"):
            port = free_port()
            process = stack.enter_context(site.role("web", name, port=port))
            more.append((f"http://localhost:{port}", process, site.logs[name]))
        for url, process, log in more:
            wait_for(f"{url}/healthz", process=process, log=log)
        yield [*site.webs, *(url for url, _, _ in more)]


@requirement("AS13", "AS14")
def test_a_token_that_is_given_back_at_one_process_is_good_at_no_other(site: Site, webs: list[str]) -> None:
    seeded = json.loads(site.run(_SEED))
    (name, secret), (of_team, of_api) = seeded["resource"], seeded["codes"]
    program = Program((name, secret), (_redeem(webs[0], of_team), _redeem(webs[1], of_api)))
    assert [program.is_good_at(web) for web in webs] == [(True, True)] * 4
    for token in program.tokens:
        given_back = {"token": token["refresh_token"], "client_id": "program"}
        assert requests.post(f"{webs[0]}/oauth/revoke", given_back, timeout=20).status_code == 200
    eventually(lambda: not any(any(program.is_good_at(web)) for web in webs), seconds=1)


def _redeem(web: str, code: str) -> dict[str, Any]:
    answer = requests.post(f"{web}/oauth/token", code_form(code), timeout=20)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found
