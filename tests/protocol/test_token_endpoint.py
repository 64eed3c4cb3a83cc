"""Requests to the token endpoint, and responses that grant or refuse."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta

import pytest

from oauthflow.protocol.authorization import ValidatedCode
from oauthflow.protocol.client_auth import ClientCredentials
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import (
    ClientRefusedError,
    FlowError,
    GrantRefusedError,
    IssuerMismatchError,
    MalformedResponseError,
    TokenEndpointError,
    TransportError,
)
from oauthflow.protocol.messages import Request, Response
from oauthflow.protocol.retry_after import ServerUnavailableError
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.token_endpoint import (
    TokenResponse,
    authorization_code_request,
    read_token_response,
    refresh_request,
)
from tests.requirements import requirement

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
ISSUER = "https://as.example.com"
ENDPOINT = "https://as.example.com/token"
RESOURCE = "https://MCP.example.com:443/mcp"
PUBLIC = ClientCredentials("client-1")


def code_request(
    *, code_issuer: str = ISSUER, resource: str | None = RESOURCE, client: ClientCredentials = PUBLIC
) -> Request:
    return authorization_code_request(
        token_endpoint=ENDPOINT,
        code=ValidatedCode(Secret("the-code"), code_issuer),
        redirect_uri="https://broker.example/api/v1/oauth/callback",
        code_verifier=Secret("v" * 43),
        resource=resource,
        client=client,
        issuer=ISSUER,
        now=NOW,
    )


def refresh(*, resource: str | None = RESOURCE, client: ClientCredentials = PUBLIC) -> Request:
    return refresh_request(
        token_endpoint=ENDPOINT,
        refresh_token=Secret("the-refresh-token"),
        resource=resource,
        client=client,
        issuer=ISSUER,
        now=NOW,
    )


def answer(document: object, *, status: int = 200, retry_after: str = "") -> Response:
    headers = {"content-type": "application/json", "retry-after": retry_after}
    return Response(status, headers=headers, body=json.dumps(document).encode())


def read(response: Response, *, requested_scope: str = "mcp:read", milliseconds: bool = False) -> TokenResponse:
    return read_token_response(response, requested_scope=requested_scope, received_at=NOW, milliseconds=milliseconds)


def granted(**changes: object) -> TokenResponse:
    return read(answer({"access_token": "at", "token_type": "Bearer", **changes}))


@requirement("A-02", "A-06", "T-12")
def test_the_code_request_carries_code_redirect_uri_verifier_and_resource() -> None:
    request = code_request()
    assert (request.method, request.url, request.headers) == ("POST", ENDPOINT, {"Accept": "application/json"})
    assert request.form == {
        "grant_type": "authorization_code",
        "code": "the-code",
        "redirect_uri": "https://broker.example/api/v1/oauth/callback",
        "code_verifier": "v" * 43,
        "resource": RESOURCE,
        "client_id": "client-1",
    }


@requirement("A-13")
def test_a_code_of_another_issuer_never_becomes_a_request() -> None:
    with pytest.raises(IssuerMismatchError):
        code_request(code_issuer=ISSUER + "/")


@requirement("A-06", "X-13")
def test_the_refresh_request_carries_the_resource_and_no_scope() -> None:
    assert refresh().form == {
        "grant_type": "refresh_token",
        "refresh_token": "the-refresh-token",
        "resource": RESOURCE,
        "client_id": "client-1",
    }


def test_no_resource_is_sent_where_there_is_none() -> None:
    assert "resource" not in (code_request(resource=None).form or {})
    assert "resource" not in (refresh(resource=None).form or {})


@requirement("T-12")
def test_both_requests_authenticate_in_the_same_way() -> None:
    client = ClientCredentials("client-1", client_secret=Secret("s"), auth_method="client_secret_basic")
    headers = [code_request(client=client).headers, refresh(client=client).headers]
    assert headers == [{"Accept": "application/json", "Authorization": "Basic Y2xpZW50LTE6cw=="}] * 2


@requirement("T-08")
def test_requests_and_granted_tokens_do_not_print_their_secrets() -> None:
    response = granted(refresh_token="marker-refresh", access_token="marker-access")
    printed = f"{code_request()!r} {refresh()!r} {response!r} {response}"
    assert not any(text in printed for text in ("the-code", "vvv", "the-refresh-token", "marker"))


def test_a_complete_answer_is_read() -> None:
    response = granted(expires_in=3600, refresh_token="rt", scope="mcp:read  mcp:write")
    assert (response.access_token.reveal(), response.token_type) == ("at", "Bearer")
    assert response.expires_at == NOW + timedelta(seconds=3600)
    assert response.refresh_token == Secret("rt")
    assert response.scope == "mcp:read mcp:write"


def test_an_answer_with_201_is_read() -> None:
    assert read(answer({"access_token": "at", "token_type": "Bearer"}, status=201)).access_token == Secret("at")


def test_an_id_token_is_not_kept() -> None:
    granted(id_token="ey.J.z")
    assert {field.name for field in fields(TokenResponse)} == {
        "access_token",
        "token_type",
        "expires_at",
        "refresh_token",
        "scope",
        "subject",
        "refresh_ends_at",
    }


@pytest.mark.parametrize("name", ["refresh_expires_in", "refresh_token_expires_in"])
@pytest.mark.parametrize(
    ("lifetime", "seconds"),
    [(1800, 1800), ("1800", 1800), (15_897_600, 15_897_600), (0, None), (-1, None), ("never", None), (10**15, None)],
)
def test_the_end_of_the_refresh_token_is_known_where_the_server_says_it(
    name: str, lifetime: object, seconds: int | None
) -> None:
    response = granted(refresh_token="rt", **{name: lifetime})
    assert response.refresh_ends_at == (None if seconds is None else NOW + timedelta(seconds=seconds))
    assert granted(refresh_token="rt").refresh_ends_at is None


@requirement("T-11", "X-13")
@pytest.mark.parametrize("changes", [{}, {"refresh_token": None}, {"refresh_token": ""}])
def test_an_answer_without_a_refresh_token_is_no_error(changes: dict[str, object]) -> None:
    assert granted(**changes).refresh_token is None


@pytest.mark.parametrize("changes", [{}, {"scope": None}])
def test_a_scope_that_is_left_out_is_the_one_requested(changes: dict[str, object]) -> None:
    assert granted(**changes).scope == "mcp:read"


@pytest.mark.parametrize("scope", ["", "mcp:read admin", "read", "repo,gist"])
def test_a_scope_that_is_wider_or_narrower_is_taken_as_granted(scope: str) -> None:
    assert granted(scope=scope).scope == scope


@pytest.mark.parametrize("token_type", ["Bearer", "bearer", "BEARER"])
def test_the_token_type_is_read_in_any_case(token_type: str) -> None:
    assert granted(token_type=token_type).token_type == "Bearer"


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [
        (0, 0),
        (1, 1),
        (60, 60),
        (31_535_999, 31_535_999),
        (31_536_000, 31_536_000),
        (31_536_001, 31_536_000),
        (10**30, 31_536_000),
        (-5, 0),
        ("3600", 3600),
        ("99999999999999999999", 31_536_000),
        (3600.0, 3600),
    ],
)
def test_a_lifetime_is_kept_between_nothing_and_a_year(expires_in: object, seconds: int) -> None:
    assert granted(expires_in=expires_in).expires_at == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "expires_in",
    [None, "abc", "", "-5", "1e3", "NaN", "9" * 5000, "٣٦٠٠", 1e99, -1e99, 0.5, True, False, [], [3600], {}],
    ids=lambda value: repr(value)[:12],
)
def test_a_lifetime_that_makes_no_sense_is_unknown_and_not_for_ever(expires_in: object) -> None:
    assert granted(expires_in=expires_in).expires_at is None


@pytest.mark.parametrize(
    ("expires_in", "seconds"), [(3_600_000, 3600), (999, 0), ("7200000", 7200), (10**15, 31_536_000)]
)
def test_a_lifetime_in_milliseconds_is_read_where_the_profile_says_so(expires_in: object, seconds: int) -> None:
    document = {"access_token": "at", "token_type": "Bearer", "expires_in": expires_in}
    assert read(answer(document), milliseconds=True).expires_at == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "token",
    ["a", "A-Z.a_z~0+9/=", "ey.J.hbGci", "user:grant:secret", "mail@host:g:s", "1|abc", "!#$%&'*^`{}", "x" * 16_384],
)
def test_an_access_token_of_header_safe_characters_is_taken_as_it_is(token: str) -> None:
    assert granted(access_token=token).access_token.reveal() == token


POISONED: dict[str, dict[str, object]] = {
    "access_token with CR LF": {"access_token": "a\r\nX: y"},
    "access_token with LF at its end": {"access_token": "a\n"},
    "access_token with a space": {"access_token": "a b"},
    "access_token with a tab": {"access_token": "a\tb"},
    "access_token with a quote": {"access_token": 'a"b'},
    "access_token with a comma": {"access_token": "a,Basic"},
    "access_token with a semicolon": {"access_token": "a;b"},
    "access_token with a backslash": {"access_token": "a\\b"},
    "access_token with DEL": {"access_token": "a\x7f"},
    "access_token with NUL": {"access_token": "a\x00"},
    "access_token beyond ASCII": {"access_token": "é"},
    "access_token of 16 KiB and one": {"access_token": "x" * 16_385},
    "access_token empty": {"access_token": ""},
    "access_token null": {"access_token": None},
    "access_token a number": {"access_token": 12345},
    "access_token a list": {"access_token": ["at"]},
    "access_token an object": {"access_token": {"value": "at"}},
    "token_type null": {"token_type": None},
    "token_type empty": {"token_type": ""},
    "token_type mac": {"token_type": "mac"},
    "token_type DPoP": {"token_type": "DPoP"},
    "token_type N_A": {"token_type": "N_A"},
    "token_type with a space": {"token_type": "Bearer "},
    "token_type a list": {"token_type": ["Bearer"]},
    "refresh_token a number": {"refresh_token": 7},
    "refresh_token a list": {"refresh_token": ["rt"]},
    "refresh_token with CR LF": {"refresh_token": "r\r\n"},
    "refresh_token of 16 KiB and one": {"refresh_token": "x" * 16_385},
    "scope a list": {"scope": ["mcp:read"]},
    "scope a number": {"scope": 1},
    "scope with a quote": {"scope": 'mcp:"read"'},
    "scope with a line end": {"scope": "mcp:read\nadmin"},
    "scope too long": {"scope": "s" * 8193},
    "error beside a token": {"error": "invalid_grant"},
}


@pytest.mark.parametrize("changes", POISONED.values(), ids=POISONED.keys())
def test_a_poisoned_answer_is_malformed_and_costs_no_login(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedResponseError) as malformed:
        granted(**changes)
    assert malformed.value.code == Code.UPSTREAM_INVALID_RESPONSE
    assert malformed.value.retryable
    assert not malformed.value.requires_reauthorization


JSON = "application/json"
WHOLE = b'{"access_token":"at","token_type":"Bearer","expires_in":60}'
GARBAGE: dict[str, tuple[str, bytes]] = {
    "1 empty body": (JSON, b""),
    "2 HTML": ("text/html", b"<html><body>Sign in</body></html>"),
    "3 HTML that calls itself JSON": (JSON, b"<html><body>Sign in</body></html>"),
    "4 truncated in a name": (JSON, WHOLE[:9]),
    "5 truncated before the last brace": (JSON, WHOLE[:-1]),
    "6 wrong length: two documents in one": (JSON, WHOLE + WHOLE),
    "7 error document": (JSON, b'{"error":"invalid_grant","error_description":"expired"}'),
    "8 empty object": (JSON, b"{}"),
    "9 no access_token": (JSON, b'{"token_type":"Bearer","expires_in":60}'),
    "10 no token_type": (JSON, b'{"access_token":"at","expires_in":60}'),
    "11 list": (JSON, b"[" + WHOLE + b"]"),
    "12 null": (JSON, b"null"),
    "13 form encoded": ("application/x-www-form-urlencoded", b"access_token=at&token_type=bearer"),
    "14 not UTF-8": (JSON, b'{"access_token":"\xff\xfe","token_type":"Bearer"}'),
    "15 a name twice": (JSON, b'{"access_token":"at","access_token":"at2","token_type":"Bearer"}'),
    "16 NaN": (JSON, b'{"access_token":"at","token_type":"Bearer","expires_in":NaN}'),
    "17 a number of 5,000 digits": (JSON, WHOLE.replace(b"60", b"6" * 5000)),
    "18 error document of an envelope": (JSON, b'{"ok":false,"error":"invalid_refresh_token"}'),
}


@requirement("X-12")
@pytest.mark.parametrize(("content_type", "body"), GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_under_200_is_malformed_and_costs_no_login(content_type: str, body: bytes) -> None:
    with pytest.raises(FlowError) as malformed:
        read(Response(200, headers={"content-type": content_type}, body=body))
    assert type(malformed.value) is MalformedResponseError
    assert malformed.value.retryable
    assert not malformed.value.requires_reauthorization


@requirement("X-12")
@pytest.mark.parametrize("status", [400, 401])
def test_invalid_grant_means_a_new_login(status: int) -> None:
    with pytest.raises(GrantRefusedError) as refused:
        read(answer({"error": "invalid_grant", "error_description": "marker"}, status=status))
    assert refused.value.code == Code.INVALID_GRANT
    assert refused.value.requires_reauthorization
    assert "marker" not in str(refused.value)


@pytest.mark.parametrize("status", [400, 401])
@pytest.mark.parametrize("error", ["invalid_client", "unauthorized_client"])
def test_a_refused_client_is_our_fault_and_costs_no_login(status: int, error: str) -> None:
    with pytest.raises(ClientRefusedError) as refused:
        read(answer({"error": error}, status=status))
    assert refused.value.code == error
    assert not refused.value.requires_reauthorization


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("invalid_request", Code.INVALID_REQUEST),
        ("unsupported_grant_type", Code.UNSUPPORTED_GRANT_TYPE),
        ("invalid_scope", Code.INVALID_SCOPE),
        ("invalid_target", Code.INVALID_REQUEST),
        ("access_denied", Code.ACCESS_DENIED),
        ("interaction_required", Code.ACCESS_DENIED),
        ("bad_verification_code", Code.SERVER_ERROR),
        ("Invalid_Grant", Code.SERVER_ERROR),
        ("marker\r\n", Code.SERVER_ERROR),
    ],
)
def test_another_error_keeps_its_code_where_we_know_it(error: str, code: Code) -> None:
    with pytest.raises(TokenEndpointError) as refused:
        read(answer({"error": error}, status=400))
    assert type(refused.value) is TokenEndpointError
    assert refused.value.code == code
    assert "marker" not in str(refused.value)


@requirement("X-12")
@pytest.mark.parametrize("error", ["server_error", "temporarily_unavailable"])
def test_a_server_that_is_down_for_now_may_say_so_with_400(error: str) -> None:
    with pytest.raises(TransportError) as unavailable:
        read(answer({"error": error}, status=400))
    assert unavailable.value.code == Code.TEMPORARILY_UNAVAILABLE


@requirement("X-12")
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_an_unavailable_server_costs_no_login_whatever_its_body_says(status: int) -> None:
    with pytest.raises(ServerUnavailableError) as unavailable:
        read(answer({"error": "invalid_grant"}, status=status, retry_after="Sat, 21 Nov 2026 12:00:42 GMT"))
    assert unavailable.value.retry_after == 42
    assert unavailable.value.retryable
    assert not unavailable.value.requires_reauthorization


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"error":null}', b'{"error":400}', b'{"error":""}'])
@pytest.mark.parametrize("status", [400, 401])
def test_a_refusal_without_an_error_code_says_nothing_about_the_grant(status: int, body: bytes) -> None:
    with pytest.raises(MalformedResponseError):
        read(Response(status, headers={"content-type": JSON}, body=body))


@pytest.mark.parametrize("status", [202, 204, 301, 302, 307, 308, 403, 404, 405, 418])
def test_another_status_is_malformed_even_with_a_token_or_an_error(status: int) -> None:
    for document in ({"access_token": "at", "token_type": "Bearer"}, {"error": "invalid_grant"}):
        with pytest.raises(MalformedResponseError):
            read(answer(document, status=status))
