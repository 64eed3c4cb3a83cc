"""What asks for too much, or comes in another form, is answered by 400."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from connections.models.api_token import ApiScope
from oauthflow.graphql import documents

from .graphql_client import api_token, ask, post, server_of

pytestmark = pytest.mark.django_db

_NAMES = "{ mcpServers { edges { node { name } } } }"
_BOMB = "query { ...F0 } " + " ".join(
    f"fragment F{level} on Query {{ ...F{level + 1} ...F{level + 1} }}" for level in range(30)
) + " fragment F30 on Query { mcpServers { edges { cursor } } }"  # fmt: skip
_ALIAS_BOMB = "query { ...A ...B } fragment A on Query { ...B ...B ...B } fragment B on Query { " + " ".join(
    f"a{number}: __typename" for number in range(15)
) + " }"  # fmt: skip


@pytest.fixture
def token(alice: User) -> str:
    return api_token(alice, *ApiScope.values)


@pytest.mark.parametrize(
    "query",
    [
        "query { ...A } fragment A on Query { ...B } fragment B on Query { ...A }",
        "query { ...A } fragment A on Query { mcpServers { ...C } }"
        " fragment C on MCPServerConnection { edges { ...D } } fragment D on MCPServerEdge { node { name } ...D }",
        _BOMB,
        _ALIAS_BOMB,
        "{ " + " ".join(f"a{number}: __typename" for number in range(1000)) + " }",
        "{ " + " ".join(f"a{number}: __typename" for number in range(16)) + " }",
        "{ " + "__typename " * 1000 + "}",
        "{ mcpServers { edges { " + "cursor " * 900 + "} } }",
        "{ mcpServers { " + "edges { cursor } " * 400 + "} }",
        "{ mcpServers { " * 9 + "name" + " } }" * 9,
        "{ mcpServers { edges { node { a { b { c { d { e } } } } } } } }",
        "{ " * 400 + "a" + " }" * 400,
        "{ ... " * 200 + "{ __typename }" + " }" * 200,
        "{ mcpServers(first: " + "[" * 900 + "]" * 900 + ") { edges { cursor } } }",
        "{ mcpServers(first: 100) { edges { node { id name slug description url transport status issuer scopes } } } }",
        "query " + " ".join(f"fragment U{n} on MCPServer {{ {'name ' * 10} }}" for n in range(100)),
        "{ __typename } " + " ".join(f"fragment U{n} on Query {{ __typename }}" for n in range(200)),
        "#\n" * 1000 + "{ __typename }",
        "{ " + "x " * 1500 + "}",
        "subscription { onMCPOAuthEvent { eventType } }",
        "type Query { a: Int }",
        "{ mcpServers { edges { node { name } } } ",
        "{ nope }",
        "query A { __typename } query B { __typename }",
        "query($first: Int!) { mcpServers(first: $first) { edges { cursor } } }",
    ],
)
def test_an_operation_that_is_too_much_or_invalid_is_answered_by_400(token: str, query: str) -> None:
    answer = ask(query, token=token)
    assert answer.status == 400
    assert set(answer.codes) == {"invalid_request"}
    assert "data" not in answer.body


def test_page_sizes_in_variables_count(token: str) -> None:
    fields = "id name slug url status issuer scopes transport description"
    query = f"query($n: Int = 1) {{ mcpServers(first: $n) {{ edges {{ node {{ {fields} }} }} }} }}"
    assert ask(query, token=token).status == 200
    assert ask(query, token=token, n=80).status == 200
    assert ask(query, token=token, n=100).status == 400


def test_the_modest_use_of_aliases_fragments_and_pages_works(token: str) -> None:
    server_of()
    answer = ask(
        "query { a: mcpServers { ...S } b: mcpServers(first: 5) { ...S } __typename }"
        " fragment S on MCPServerConnection { edges { node { id name slug } } pageInfo { hasNextPage endCursor } }",
        token=token,
    )
    assert answer.status == 200
    assert answer.data["a"]["edges"][0]["node"]["slug"] == "notion"
    assert answer.data["a"] == answer.data["b"]


@pytest.mark.parametrize(
    "body",
    [
        [{"query": "{ __typename }"}],
        [{"query": "{ __typename }"}, {"query": "{ __typename }"}],
        "",
        "{",
        "null",
        '{"query": "{ __typename }", "query": "{ mcpServers { edges { cursor } } }"}',
        '{"query": "{ __typename }", "variables": {"x": NaN}}',
        '{"query": "{ __typename }", "variables": ' + "[" * 5000 + "]" * 5000 + "}",
        b"\xff\xfe",
        {},
        {"query": ""},
        {"query": 7},
        {"query": "{ __typename }", "variables": "{}"},
        {"query": "{ __typename }", "operationName": 7},
        {"query": "{ __typename }", "operationName": "Nope"},
        {"query": "{ __typename }", "padding": "x" * 64 * 1024},
    ],
    ids=range(16),
)
def test_a_body_of_another_form_is_answered_by_400(token: str, body: object) -> None:
    assert post(body, token=token).status == 400


@pytest.mark.parametrize(
    "content_type",
    ["application/graphql", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""],
)
def test_another_content_type_is_answered_by_400(token: str, content_type: str) -> None:
    assert post({"query": "{ __typename }"}, token=token, content_type=content_type).status == 400


def test_a_form_is_not_read(token: str) -> None:
    response = Client().post("/graphql", {"query": "{ __typename }"}, headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 400


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete", "options", "head"])
def test_another_method_is_answered_by_400_also_with_a_mutation_in_the_address(token: str, method: str) -> None:
    mutation = 'mutation { revokeMCPOAuth(input: {connectionId: "1"}) { success } }'
    client = APIClient(headers={"Authorization": f"Bearer {token}"})
    response = getattr(client, method)("/graphql", query_params={"query": mutation})
    assert response.status_code == 400


def test_a_query_in_the_address_is_ignored(token: str) -> None:
    response = Client().post(
        "/graphql?query={__typename}",
        "{}",
        content_type="application/json",
        headers={"Authorization": f"Bearer {token}"},
    )
    assert response.status_code == 400


@pytest.mark.parametrize("query", ["{ __schema { types { name } } }", '{ __type(name: "Query") { name } }'])
def test_introspection_is_for_debugging_only(token: str, settings: Settings, query: str) -> None:
    settings.DEBUG = True
    assert ask(query, token=token).status == 200
    settings.DEBUG = False
    assert ask(query, token=token).status == 400
    assert ask("{ __typename }", token=token).status == 200


def test_a_wrong_name_is_not_met_with_the_right_one(token: str) -> None:
    for query in (
        "{ mcpServer { edges { cursor } } }",
        "{ mcpServers { edges { nod { name } } } }",
        "{ mcpServers(frist: 3) { edges { cursor } } }",
        "mutation { revokeMCPOaut { success } }",
    ):
        answer = ask(query, token=token)
        assert answer.status == 400
        assert "mean" not in json.dumps(answer.body)


def test_a_valid_document_is_validated_once(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    query = "query Once { mcpServers { edges { node { slug } } } }"
    assert ask(query, token=token).status == 200

    def again(*args: object, **kwargs: object) -> None:
        raise AssertionError("validated again")

    monkeypatch.setattr(documents, "validate", again)
    assert ask(query, token=token).status == 200


def test_only_the_last_hundred_documents_are_kept(token: str) -> None:
    for number in range(110):
        ask(f"query Q{number} {{ __typename }}", token=token)
    assert len(documents._kept._documents) == 100


@pytest.mark.parametrize("page", ["first: -1", "last: -1", "last: 101", "first: 101"])
def test_a_page_that_is_no_page_is_refused_in_words(token: str, page: str) -> None:
    answer = ask(f"{{ mcpServers({page}) {{ edges {{ cursor }} }} }}", token=token)
    assert answer.codes == ["invalid_request"]


def test_a_page_ends_where_it_was_asked_to_and_the_next_one_follows(token: str) -> None:
    for number in range(25):
        server_of(f"server-{number:02}")
    fields = "edges { node { slug } } pageInfo { hasNextPage endCursor }"
    query = f"query($after: String) {{ mcpServers(after: $after) {{ {fields} }} }}"
    first = ask(query, token=token).data["mcpServers"]
    second = ask(query, token=token, after=first["pageInfo"]["endCursor"]).data["mcpServers"]
    assert [len(page["edges"]) for page in (first, second)] == [20, 5]
    assert [page["pageInfo"]["hasNextPage"] for page in (first, second)] == [True, False]
    slugs = [edge["node"]["slug"] for page in (first, second) for edge in page["edges"]]
    assert slugs == sorted(slugs)


def test_the_plain_query_is_answered_and_kept_by_nobody(token: str) -> None:
    answer = ask(_NAMES, token=token)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
