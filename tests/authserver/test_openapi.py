"""The OpenAPI document of the authorization server is true: whatever is sent, the answers are those that it lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.contrib.auth.models import User
from django.test import Client
from hypothesis import HealthCheck, settings
from pytest_django import Settings
from schemathesis.python import asgi
from schemathesis.specs.openapi.checks import ignored_auth, negative_data_rejection, positive_data_acceptance

from authserver.endpoints.metadata import authorization_server
from authserver.endpoints.paths import ENDPOINTS
from authserver.flows import begin_authorization
from authserver.models import McpClient, ProtectedResource, hash_of_secret
from oauthflow.protocol.secret import Secret
from tests.product import ROOT
from tests.requirements import requirement

from .grants import RESOURCE, SECRET, make_client, nothing_remembered
from .test_token_endpoints_asgi import Site
from .token_calls import FORM, basic_header

__all__ = ["nothing_remembered"]
pytestmark = pytest.mark.django_db(transaction=True)

RESOURCE_ID = "7d1f3f0a-1f3c-4a52-9a5e-2f4a1c3b9d10"
# The same ones each time: what is found anew belongs into a run with more of them, not into somebody's change.
FEW = settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
document = schemathesis.openapi.from_path(ROOT / "docs" / "authorization-server.openapi.yaml")


class Served:
    """The site's endpoints, opened and closed as a server does."""

    def __init__(self) -> None:
        self._site = Site()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await self._site.application(scope, receive, send)
            return
        for name, work in (("startup", self._site.application.open), ("shutdown", self._site.application.close)):
            await receive()
            await work()
            await send({"type": f"lifespan.{name}.complete"})


@pytest.fixture
def program(alice: User, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[asgi.ASGIClient]:
    """A program, and the browser of somebody who is signed in."""
    settings.AUTHSERVER = {"refusals_a_minute": 0, "registrations_of_an_address": 10**6, "registrations_a_day": 10**6}
    monkeypatch.setattr(begin_authorization, "STARTS_A_MINUTE", 10**6)
    secret_hash = hash_of_secret(Secret(SECRET))
    make_client(kind=McpClient.Kind.DYNAMIC, registration_access_token_hash=secret_hash)
    ProtectedResource.objects.create(
        pk=RESOURCE_ID, name="Team notes", resource=RESOURCE, scopes={"notes:read": "Read"}, secret_hash=secret_hash
    )
    browser = Client()
    browser.force_login(alice)
    with asgi.get_client(Served()) as session:
        session.cookies.set("sessionid", browser.cookies["sessionid"].value)
        yield session
    asgi.shutdown_lifespans()


@requirement("AS17")
@document.parametrize()
@FEW
def test_every_endpoint_answers_strangers_as_the_document_says(case: Any, program: asgi.ASGIClient) -> None:
    _check(case, program)


@requirement("AS17")
@document.parametrize()
@FEW
def test_every_endpoint_answers_whom_it_knows_as_the_document_says(case: Any, program: asgi.ASGIClient) -> None:
    for part in (case.query, case.body, case.path_parameters):
        if isinstance(part, dict) and "client_id" in part:
            part["client_id"] = "program"
    if case.path == "/oauth/introspect":
        case.headers["Authorization"] = basic_header(RESOURCE_ID, SECRET)
    elif "{client_id}" in case.path:
        case.headers["Authorization"] = f"Bearer {SECRET}"
    _check(case, program, negative_data_rejection)


def _check(case: Any, program: asgi.ASGIClient, *excluded: Any) -> None:
    answer = case.call(session=program, base_url="http://localhost:8000", allow_redirects=False)
    # What is well formed may still be refused: a code that was never issued, a client that nobody knows.
    case.validate_response(answer, excluded_checks=[positive_data_acceptance, ignored_auth, *excluded])


def test_the_document_names_what_the_server_offers() -> None:
    said = authorization_server()
    endpoints = {str(said[name]) for name in said if name.endswith(("_endpoint", "jwks_uri"))}
    paths, schemas = set(document.raw_schema["paths"]), document.raw_schema["components"]["schemas"]
    assert {address.removeprefix(said["issuer"]) for address in endpoints} | set(ENDPOINTS) <= paths
    assert set(schemas["ServerMetadata"]["required"]) <= set(said)
    grants = document.raw_schema["paths"]["/oauth/token"]["post"]["requestBody"]["content"][FORM]["schema"]["oneOf"]
    named = [schemas[one["$ref"].rpartition("/")[2]]["properties"]["grant_type"]["const"] for one in grants]
    assert named == said["grant_types_supported"]
