"""The OpenAPI document, its page, and what a browser of another site may do."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from tests.rest_clients import anonymous, in_browser, with_token

pytestmark = pytest.mark.django_db

_RELEASE = "/api/v1/connections/{connection_id}/token"


@pytest.fixture
def document(client: Client) -> dict[str, Any]:
    answer = client.get("/api/v1/schema", {"format": "json"})
    assert answer.status_code == 200
    return dict(json.loads(answer.content))


def _schemas_below(node: Any, document: dict[str, Any]) -> set[str]:
    """Names of all properties that an answer can have, through references."""
    if isinstance(node, list):
        return set().union(*(_schemas_below(item, document) for item in node))
    if not isinstance(node, dict):
        return set()
    names = set(node.get("properties", {}))
    if reference := node.get("$ref"):
        names |= _schemas_below(document["components"]["schemas"][reference.rpartition("/")[2]], document)
    return names.union(*(_schemas_below(item, document) for item in node.values()))


def test_every_operation_has_an_id_of_its_own_and_tells_its_credentials(document: dict[str, Any]) -> None:
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    assert all({"apiToken": []} in operation["security"] for operation in operations)


def test_only_one_operation_answers_with_a_token_or_secret(document: dict[str, Any]) -> None:
    secret = re.compile(r"(access|refresh|id)_token|client_secret|verifier|password|sealed|mac")
    answering = {
        path
        for path, item in document["paths"].items()
        for operation in item.values()
        for name in _schemas_below(operation["responses"], document)
        if secret.fullmatch(name)
        and not document["components"]["schemas"].get("Server", {}).get("properties", {}).get(name, {}).get("writeOnly")
    }
    assert answering == {_RELEASE}


def test_the_page_runs_nothing_inline_and_loads_nothing_from_elsewhere(client: Client) -> None:
    page = client.get("/api/v1/docs")
    html = page.content.decode()
    script = client.get("/api/v1/docs", {"script": ""})
    assert page.status_code == script.status_code == 200
    assert re.findall(r"<script(?![^>]*\bsrc=)", html) == []
    assert "<style" not in html
    assert re.findall(r'(?:src|href)="(?!/)[^"]*"', html) == []
    assert "/api/v1/schema" in script.content.decode()
    assert script.headers["Content-Type"].startswith("application/javascript")
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]


def test_no_answer_is_kept(client: Client, alice: User) -> None:
    addresses = ["schema", "docs", "connections", "connections/1", "oauth/status/x", "audit/events"]
    for address in addresses:
        answer = in_browser(alice).get(f"/api/v1/{address}")
        assert answer.headers["Cache-Control"] == "no-store", address
        assert answer.headers["Referrer-Policy"] == "no-referrer", address


def test_only_a_listed_origin_may_read_the_api_and_never_with_cookies(alice: User, settings: Settings) -> None:
    settings.CORS_ALLOWED_ORIGINS = ("https://app.example",)
    client = with_token(alice)
    allowed = client.get("/api/v1/connections", headers={"Origin": "https://app.example"})
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://app.example"
    for origin in ("null", "https://evil.example", "https://app.example.evil.example", "http://app.example", "*"):
        refused = client.get("/api/v1/connections", headers={"Origin": origin})
        assert "Access-Control-Allow-Origin" not in refused.headers, origin
    assert "Access-Control-Allow-Credentials" not in allowed.headers
    assert "Origin" in allowed.headers["Vary"]


def test_a_preflight_from_a_listed_origin_is_answered_without_a_credential(db: None, settings: Settings) -> None:
    settings.CORS_ALLOWED_ORIGINS = ("https://app.example",)
    asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    allowed = anonymous().options("/api/v1/connections", headers={"Origin": "https://app.example", **asking})
    refused = anonymous().options("/api/v1/connections", headers={"Origin": "https://evil.example", **asking})
    assert (allowed.status_code, allowed.headers["Access-Control-Allow-Origin"]) == (204, "https://app.example")
    assert "Access-Control-Allow-Origin" not in refused.headers


def test_the_browsers_way_back_is_closed_to_scripts_of_other_sites(client: Client, settings: Settings) -> None:
    settings.CORS_ALLOWED_ORIGINS = ("https://app.example",)
    answer = client.get("/api/v1/oauth/callback", headers={"Origin": "https://app.example"})
    assert "Access-Control-Allow-Origin" not in answer.headers
