"""Many at the same moment, with real threads on the real database; a commit that fails; statements against models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.utils import timezone

from authserver.endpoints.token import GRANTS, answer_token_requests
from authserver.models import AuthorizationCode, Consent, McpClient, ServiceAccount, TokenFamily, UsedAssertion
from authserver.protocol.form_request import FormRequest
from authserver.protocol.token_response import TokenResponse
from authserver.statements import claim_assertion, find_client, find_code, find_family, find_service_resources
from tests.authserver.grants import make_client, make_code, make_consent, nothing_remembered
from tests.authserver.token_calls import FORM, Got, ask_token, code_form, refresh_form
from tests.fakes.crowd import all_at_once
from tests.requirements import requirement

__all__ = ["nothing_remembered"]
pytestmark = pytest.mark.django_db(transaction=True)
MANY = 20


@pytest.fixture
def consent(alice: User) -> Consent:
    return make_consent(alice, make_client())


@requirement("AS06")
def test_of_many_redemptions_of_one_code_one_wins_and_none_fails(consent: Consent) -> None:
    for _ in range(3):
        code = make_code(consent)
        got = [one for one in all_at_once(MANY, lambda code=code: ask_token(code_form(code))) if isinstance(one, Got)]
        assert sorted(one.status for one in got) == [200] + [400] * (MANY - 1)
        assert {one.error for one in got} == {"", "invalid_grant"}


@requirement("AS07")
def test_of_many_uses_of_one_refresh_token_all_get_the_same_successor(consent: Consent) -> None:
    token = ask_token(code_form(make_code(consent))).members["refresh_token"]
    for generation in range(2, 5):
        got = all_at_once(MANY, lambda token=token: ask_token(refresh_form(token)))
        assert [one.status for one in got if isinstance(one, Got)] == [200] * MANY
        pairs = {(one.members["refresh_token"], one.members["access_token"]) for one in got if isinstance(one, Got)}
        assert len(pairs) == 1
        assert TokenFamily.objects.get().generation == generation
        token = pairs.pop()[0]


_REFUSING: dict[str, tuple[list[str], list[str]]] = {
    # A deferred constraint is checked by the COMMIT itself.
    "postgresql": (
        [
            "CREATE FUNCTION refuse_commit() RETURNS trigger AS 'BEGIN RAISE EXCEPTION ''no''; END' LANGUAGE plpgsql",
            "CREATE CONSTRAINT TRIGGER refuse_commit AFTER UPDATE ON authserver_tokenfamily"
            " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse_commit()",
        ],
        ["DROP TRIGGER refuse_commit ON authserver_tokenfamily", "DROP FUNCTION refuse_commit"],
    ),
    "sqlite": (
        ["CREATE TRIGGER refuse_commit AFTER UPDATE ON authserver_tokenfamily BEGIN SELECT RAISE(ROLLBACK, 'no'); END"],
        ["DROP TRIGGER refuse_commit"],
    ),
}


@contextmanager
def commits_that_fail() -> Iterator[None]:
    """Let the database refuse to change families."""
    begin, end = _REFUSING[connection.vendor]
    try:
        for statement in begin:
            connection.cursor().execute(statement)
        yield
    finally:
        for statement in end:
            connection.cursor().execute(statement)


@requirement("AS07")
def test_a_transaction_that_was_rolled_back_has_used_nothing_up(consent: Consent) -> None:
    code = make_code(consent)
    with commits_that_fail():
        got = ask_token(code_form(code))
        assert (got.status, got.error, got.headers["Retry-After"]) == (503, "temporarily_unavailable", "1")
    token = ask_token(code_form(code)).members["refresh_token"]
    with commits_that_fail():
        assert ask_token(refresh_form(token)).status == 503
    assert ask_token(refresh_form(token)).status == 200
    assert not TokenFamily.objects.get().ended_at


@requirement("AS07")
def test_a_transaction_that_fails_once_is_not_noticed_and_spoils_nobody_elses(
    consent: Consent, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = [ask_token(code_form(make_code(consent))).members["refresh_token"] for _ in range(3)]
    real, failures = GRANTS["refresh_token"], [OperationalError("the server went away")]

    def fails_once(*args: Any, **kwargs: Any) -> TokenResponse:
        response = real(*args, **kwargs)
        if failures:
            raise failures.pop()
        return response

    monkeypatch.setitem(cast("dict[str, Any]", GRANTS), "refresh_token", fails_once)
    answers = answer_token_requests([_request(refresh_form(token)) for token in tokens])
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert set(TokenFamily.objects.values_list("generation", flat=True)) == {2}
    assert [ask_token(refresh_form(token)).status for token in tokens] == [200, 200, 200]


def test_requests_that_share_a_transaction_are_answered_each_for_itself(consent: Consent) -> None:
    code, other = make_code(consent), make_code(consent)
    token = ask_token(code_form(make_code(consent))).members["refresh_token"]
    forms = [
        code_form(code), {"grant_type": "nothing"}, refresh_form(token), code_form(other, code_verifier="w" * 43),
        code_form(code), refresh_form(token),
    ]  # fmt: skip
    answers = answer_token_requests([_request(form) for form in forms])
    assert [answer.status for answer in answers] == [200, 401, 200, 400, 400, 200]
    assert answers[2].body == answers[5].body
    assert ask_token(code_form(other)).status == 200


def test_a_request_that_breaks_something_spoils_nobody_elses(consent: Consent, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*args: object, **kwargs: object) -> TokenResponse:
        raise ValueError

    monkeypatch.setitem(cast("dict[str, Any]", GRANTS), "client_credentials", break_down)
    McpClient.objects.update(grant_types=["authorization_code", "refresh_token", "client_credentials"])
    forms = [code_form(make_code(consent)), {"grant_type": "client_credentials", "client_id": "program"}]
    assert [answer.status for answer in answer_token_requests([_request(form) for form in forms])] == [200, 503]


def _request(form: dict[str, str]) -> FormRequest:
    return FormRequest(method="POST", query=b"", content_type=FORM, authorization=None, body=urlencode(form).encode())


def test_the_statements_say_what_the_models_say(consent: Consent, alice: User) -> None:
    now = timezone.now()
    ask_token(code_form(make_code(consent)))
    family, client = TokenFamily.objects.get(), McpClient.objects.get()
    found = find_family(family.pk)
    assert found is not None
    for name in set(found._fields) - {"is_standing"}:
        assert getattr(found, name) == getattr(family, name), name
    assert found.is_standing is True
    code, stored = AuthorizationCode.objects.get(), find_code(family.pk)
    assert stored is not None
    assert (stored.code_hash, stored.redirect_uri, stored.code_challenge, stored.expires_at, stored.is_used) == (
        code.code_hash, code.redirect_uri, code.code_challenge, code.expires_at, True,
    )  # fmt: skip
    asking = find_client("program", now=now, stale=now)
    assert asking is not None
    assert (asking.id, asking.kind, asking.auth_method) == (client.pk, client.kind, client.token_endpoint_auth_method)
    assert json.loads(asking.grant_types) == client.grant_types
    assert find_client("program", now=now, stale=now - timedelta(hours=1)) == asking._replace(is_use_old=False)
    ServiceAccount.objects.create(client=client, user=alice, resources=["a", "b"])
    assert find_service_resources(client.pk) == ["a", "b"]
    assert claim_assertion("a" * 64, expires_at=now)
    assert not claim_assertion("a" * 64, expires_at=now)
    assert UsedAssertion.objects.get().expires_at == now
