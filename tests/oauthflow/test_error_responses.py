"""What stopped a flow, in the words of each face."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404
from rest_framework import exceptions

from audit.correlation import begin_correlation
from oauthflow.error_responses import graphql_payload, page_context, rest_exception_handler, rest_response, status_of
from oauthflow.protocol import errors
from oauthflow.protocol.codes import REFUSED_HERE, SENTENCES, Code
from oauthflow.protocol.retry_after import ServerUnavailableError
from oauthflow.protocol.secret import Secret

_DETAIL = "expected https://as.example, got <script>"


_KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.FlowError)]


def _rest(error: Exception) -> Any:
    answer = rest_exception_handler(error, {})
    assert answer is not None
    return answer


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.AuthorizationRequiredError(_DETAIL), 409),
        (errors.SecretUnreadableError(_DETAIL), 409),
        (errors.AuthorizationDeniedError(_DETAIL), 409),
        (errors.InvalidRequestError(_DETAIL), 400),
        (errors.InvalidRequestError(_DETAIL, code=Code.INVALID_RETURN_TO), 400),
        (errors.StateError(_DETAIL), 400),
        (errors.StateError(_DETAIL, code=Code.STATE_USED), 400),
        (errors.StateError(_DETAIL, code=Code.STATE_EXPIRED), 400),
        (errors.StateError(_DETAIL, code=Code.FLOW_SESSION_MISMATCH), 403),
        (errors.StateError(_DETAIL, code=Code.LINK_USER_MISMATCH), 403),
        (errors.BlockedUrlError(_DETAIL), 422),
        (errors.DiscoveryError(_DETAIL), 422),
        (errors.IssuerChangedError(_DETAIL), 422),
        (errors.PkceNotSupportedError(_DETAIL), 422),
        (errors.RegistrationError(_DETAIL), 422),
        (errors.NoClientError(_DETAIL), 422),
        (errors.TransportError(_DETAIL), 503),
        (errors.ResponseTimeoutError(_DETAIL), 503),
        (errors.MalformedResponseError(_DETAIL), 502),
        (errors.TokenEndpointError(_DETAIL), 502),
        (errors.GrantRefusedError(_DETAIL), 502),
        (errors.ClientRefusedError(_DETAIL), 502),
        (errors.FlowError(_DETAIL), 502),
    ],
)
def test_each_kind_of_error_has_its_status_on_pages_and_in_rest(error: errors.FlowError, status: int) -> None:
    assert status_of(error) == _rest(error).status_code == page_context(error)["status"] == status


@pytest.mark.parametrize("kind", _KINDS)
def test_no_face_shows_the_detail_of_any_error(kind: type[errors.FlowError]) -> None:
    error = kind(_DETAIL)
    for said in (_rest(error).data, page_context(error), graphql_payload(error)):
        assert "as.example" not in str(said)
        ours = kind is errors.InvalidRequestError
        assert said["message"] == (REFUSED_HERE if ours else SENTENCES[error.code]).message


def test_a_request_that_we_refuse_ourselves_sends_nobody_to_sign_in_and_one_that_a_service_refuses_does() -> None:
    for error, helps in ((errors.InvalidRequestError(_DETAIL), False), (errors.TokenEndpointError(_DETAIL), True)):
        for said in (_rest(error).data, graphql_payload(error)):
            assert (said["retryable"], said["requires_reauthorization"]) == (helps, helps)
        assert graphql_payload(error)["reauthorization_reason"] == ("invalid_request" if helps else "")


def test_a_rest_answer_has_the_five_members_of_the_contract_and_is_not_kept() -> None:
    begin_correlation("request-12345")
    answer = _rest(errors.StateError(_DETAIL, code=Code.STATE_USED))
    assert answer.data == {
        "error": "state_used",
        "message": SENTENCES[Code.STATE_USED].message,
        "retryable": True,
        "requires_reauthorization": True,
        "correlation_id": "request-12345",
    }
    assert (answer.headers["Cache-Control"], answer.headers["Referrer-Policy"]) == ("no-store", "no-referrer")


def test_a_server_that_said_how_long_to_wait_is_quoted_and_else_it_is_half_a_minute() -> None:
    said = ServerUnavailableError("busy", retry_after=17)
    assert _rest(said).headers["Retry-After"] == "17"
    assert _rest(errors.TransportError()).headers["Retry-After"] == "30"


def test_only_an_answer_that_says_try_again_later_says_when() -> None:
    assert "Retry-After" not in _rest(errors.MalformedResponseError()).headers


def test_the_way_on_is_told_where_there_is_one() -> None:
    expires_at = datetime(2026, 11, 21, 12, 10, tzinfo=UTC)
    started: Any = SimpleNamespace(authorization_url="http://here/x", state=Secret("s" * 43), expires_at=expires_at)
    error = errors.AuthorizationRequiredError(reason="invalid_grant")
    for said in (rest_response(error, started=started).data, graphql_payload(error, started=started)):
        assert (said["authorization_url"], said["state"], said["expires_at"]) == (
            "http://here/x", "s" * 43, expires_at,
        )  # fmt: skip
    assert "authorization_url" not in rest_response(error).data


def test_a_graphql_payload_tells_why_a_person_is_needed() -> None:
    said = graphql_payload(errors.AuthorizationRequiredError(reason="no_refresh_token"))
    assert (said["success"], said["requires_oauth"], said["requires_reauthorization"]) == (False, True, True)
    assert said["reauthorization_reason"] == "no_refresh_token"
    assert graphql_payload(errors.TransportError())["reauthorization_reason"] == ""


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Http404("Connection matching query"), 404, "not_found"),
        (exceptions.NotFound("secret-name"), 404, "not_found"),
        (PermissionDenied(), 403, "permission_denied"),
        (exceptions.PermissionDenied(), 403, "permission_denied"),
        (exceptions.PermissionDenied(code="insufficient_scope"), 403, "insufficient_scope"),
        (exceptions.NotAuthenticated(), 401, "not_authenticated"),
        (exceptions.AuthenticationFailed(), 401, "not_authenticated"),
        (exceptions.ParseError(), 400, "invalid_request"),
        (exceptions.MethodNotAllowed("PUT"), 405, "method_not_allowed"),
        (exceptions.NotAcceptable(), 406, "not_acceptable"),
        (exceptions.UnsupportedMediaType("text/plain"), 415, "unsupported_media_type"),
        (exceptions.Throttled(wait=3), 429, "too_many_requests"),
    ],
)
def test_the_frameworks_own_refusals_have_the_same_form(error: Exception, status: int, code: str) -> None:
    answer = _rest(error)
    assert (answer.status_code, answer.data["error"]) == (status, code)
    assert set(answer.data) == {"error", "message", "retryable", "requires_reauthorization", "correlation_id"}
    assert "secret-name" not in str(answer.data)


def test_a_throttled_caller_is_told_when_to_come_back() -> None:
    answer = _rest(exceptions.Throttled(wait=3))
    assert (answer.headers["Retry-After"], answer.data["retryable"]) == ("3", True)


@pytest.mark.parametrize(
    ("error", "fields"),
    [
        (exceptions.ValidationError({"name": ["Too long."]}), {"name": ["Too long."]}),
        (exceptions.ValidationError("Either this or that."), {"non_field_errors": ["Either this or that."]}),
        (ValidationError({"url": "Not an address."}), {"url": ["Not an address."]}),
        (ValidationError("Together they make no sense."), {"non_field_errors": ["Together they make no sense."]}),
    ],
)
def test_a_body_of_the_wrong_form_is_answered_field_by_field(error: Exception, fields: dict[str, list[str]]) -> None:
    answer = _rest(error)
    assert (answer.status_code, answer.data["error"], answer.data["fields"]) == (400, "invalid_request", fields)


def test_what_nobody_foresaw_stays_a_server_error() -> None:
    assert rest_exception_handler(ZeroDivisionError(), {}) is None
    assert rest_exception_handler(exceptions.APIException(), {}) is None
