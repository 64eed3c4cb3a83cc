"""What a client asks at the authorization endpoint, and the checks in the order in which they run.

Client and redirect URI come first: before both are known to be right, nobody is sent anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from oauthflow.protocol.errors import FlowError
from oauthflow.protocol.scopes import OFFLINE_ACCESS, format_scope, parse_scope

from .errors import (
    InvalidRedirectUriError,
    InvalidRequestError,
    InvalidScopeError,
    InvalidTargetError,
    UnauthorizedClientError,
    UnknownClientError,
    UnsupportedResponseTypeError,
)
from .redirect_uri import find_registered

LONGEST_STATE: Final = 2048
LONGEST_SCOPE: Final = 1000
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_STATE = re.compile(r"[\x20-\x7e]*")
_PROMPTS: Final = frozenset({"", "none", "login", "consent", "select_account"})
# Each is read by us or would change the answer; others are ignored. RFC 6749 §3.1.
_READ_ONCE: Final = (
    "client_id", "redirect_uri", "response_type", "state", "scope", "resource", "code_challenge",
    "code_challenge_method", "response_mode", "prompt", "request", "request_uri",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ClientRules:
    """What limits the requests of one client.

    Attributes:
        redirect_uris: As registered.
        grant_types: Those that it may use.
        scopes: Those that it may ask for; empty for whatever a person allows.
    """

    redirect_uris: Sequence[str]
    grant_types: Sequence[str]
    scopes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ResourceRules:
    """A resource that may be asked for, with the scopes it has and those meant by a request that names none."""

    resource: str
    scopes: frozenset[str]
    default_scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Answerable:
    """Where the answer goes: known before anything else is judged.

    Attributes:
        redirect_uri: As in the request, or the client's only one.
        registered_redirect_uri: The one of the registration that it equals.
        state: As sent; None where there is none, or none that could be returned.
    """

    redirect_uri: str
    registered_redirect_uri: str
    state: str | None


@dataclass(frozen=True, slots=True)
class CheckedRequest:
    """An authorization request that a person may be asked about."""

    answerable: Answerable
    resource: str
    scopes: frozenset[str]
    code_challenge: str
    prompt: str

    @property
    def scope(self) -> str:
        """The scopes as text."""
        return format_scope(self.scopes)


@dataclass(frozen=True, slots=True)
class Asked:
    """The parameters as they came, each with all its values, and what they are measured against."""

    parameters: Mapping[str, Sequence[str]]
    client: ClientRules
    resource: ResourceRules | None

    def one(self, name: str) -> str:
        """Return the value of a parameter; empty counts as absent. RFC 6749 §3.1."""
        return next(iter(self.parameters.get(name, ())), "")


def read_client_id(parameters: Mapping[str, Sequence[str]]) -> str:
    """Return the client id of a request.

    Raises:
        UnknownClientError: There is none, or more than one.
    """
    values = parameters.get("client_id", ())
    if len(values) != 1 or not values[0] or not _STATE.fullmatch(values[0]):
        raise UnknownClientError("The request does not say which program it comes from.")
    return values[0]


def read_answerable(parameters: Mapping[str, Sequence[str]], *, client: ClientRules) -> Answerable:
    """Find out where the answer may go.

    Raises:
        InvalidRedirectUriError: The redirect URI is repeated, missing where the client has several, or not its own.

    Spec: RFC 6749 §3.1.2, §4.1.2.1; RFC 9700 §2.1. A-17, A-20, X-09, R-11, AS01.
    """
    sent = [uri for uri in parameters.get("redirect_uri", ()) if uri]
    if len(parameters.get("redirect_uri", ())) > 1:
        raise InvalidRedirectUriError("The request names more than one place to return to.")
    requested = sent[0] if sent else _only(client.redirect_uris)
    registered = find_registered(requested, registered=client.redirect_uris)
    if registered is None:
        raise InvalidRedirectUriError("The place to return to is not one that this program has registered.")
    states = parameters.get("state", ())
    usable = len(states) == 1 and len(states[0]) <= LONGEST_STATE and _STATE.fullmatch(states[0]) is not None
    return Answerable(requested, registered, states[0] if usable else None)


def check_request(asked: Asked, *, answerable: Answerable) -> CheckedRequest:
    """Run all further checks, in order, and return what a person is asked.

    Raises:
        OAuthError: The first check that failed; it may travel to the redirect URI.

    Spec: RFC 6749 §4.1.1; RFC 7636 §4.3; RFC 8707 §2; RFC 9700 §2.1. A-01, X-03, X-05, AS05, AS11, AS16.
    """
    for check in CHECKS:
        check(asked)
    if asked.resource is None:
        raise InvalidTargetError("The request names a resource that is not here.")
    return CheckedRequest(
        answerable=answerable,
        resource=asked.resource.resource,
        scopes=_scopes(asked, asked.resource),
        code_challenge=asked.one("code_challenge"),
        prompt=asked.one("prompt"),
    )


def no_parameter_is_repeated(asked: Asked) -> None:
    """RFC 6749 §3.1; RFC 8707 §2 would allow several resources, and one token is for one of them here."""
    if len(asked.parameters.get("resource", ())) > 1:
        raise InvalidTargetError("The request names more than one resource.")
    if any(len(asked.parameters.get(name, ())) > 1 for name in _READ_ONCE):
        raise InvalidRequestError("A parameter occurs more than once.")


def state_can_be_returned(asked: Asked) -> None:
    """RFC 6749 appendix A.5."""
    if len(asked.one("state")) > LONGEST_STATE or not _STATE.fullmatch(asked.one("state")):
        raise InvalidRequestError("state is too long or holds characters that it may not hold.")


def response_type_is_code(asked: Asked) -> None:
    """RFC 9700 §2.1.2: nothing is issued through the browser but a code."""
    if not asked.one("response_type"):
        raise InvalidRequestError("response_type is missing.")
    if asked.one("response_type") != "code":
        raise UnsupportedResponseTypeError("The only response_type is code.")


def response_mode_is_query(asked: Asked) -> None:
    """The one mode in which we answer."""
    if asked.one("response_mode") not in ("", "query"):
        raise InvalidRequestError("The only response_mode is query.")


def parameters_are_plain(asked: Asked) -> None:
    """Request objects are not offered. RFC 9101 §6."""
    if asked.one("request") or asked.one("request_uri"):
        raise InvalidRequestError("Request objects are not supported.")


def client_may_use_codes(asked: Asked) -> None:
    """RFC 6749 §4.1.2.1."""
    if "authorization_code" not in asked.client.grant_types:
        raise UnauthorizedClientError("This client may not use authorization codes.")


def challenge_is_s256(asked: Asked) -> None:
    """RFC 7636 §4.3; RFC 9700 §2.1.1: of every client, and no other method."""
    if asked.one("code_challenge_method") != "S256":
        raise InvalidRequestError("code_challenge_method has to be S256.")
    if not _CHALLENGE.fullmatch(asked.one("code_challenge")):
        raise InvalidRequestError("code_challenge has to be 43 characters of base64url.")


def prompt_is_known(asked: Asked) -> None:
    """OpenID Connect Core 1.0 §3.1.2.1. Who sends `login` or `select_account` gets the consent page."""
    words = asked.one("prompt").split(" ")
    if not set(words) <= _PROMPTS or ("none" in words and len(words) > 1):
        raise InvalidRequestError("This prompt is not known.")


def resource_is_ours(asked: Asked) -> None:
    """RFC 8707 §2: compared character by character, never by prefix."""
    if asked.resource is None:
        raise InvalidTargetError("The request names a resource that is not here.")


def scopes_are_offered(asked: Asked) -> None:
    """RFC 6749 §3.3: exactly the scopes of the resource, and of those what the client may have."""
    offered = asked.resource.scopes | {OFFLINE_ACCESS} if asked.resource else frozenset()
    wanted = _asked_scopes(asked)
    if not wanted <= offered:
        raise InvalidScopeError("The resource does not have all of these scopes.")
    if asked.client.scopes and not wanted <= asked.client.scopes:
        raise InvalidScopeError("The client may not ask for all of these scopes.")


CHECKS: Final[tuple[Callable[[Asked], None], ...]] = (
    no_parameter_is_repeated,
    state_can_be_returned,
    response_type_is_code,
    response_mode_is_query,
    parameters_are_plain,
    client_may_use_codes,
    challenge_is_s256,
    prompt_is_known,
    resource_is_ours,
    scopes_are_offered,
)


def _scopes(asked: Asked, resource: ResourceRules) -> frozenset[str]:
    """What is asked for; the usual scopes where nothing is named but that the client stays connected."""
    wanted = _asked_scopes(asked)
    if wanted - {OFFLINE_ACCESS}:
        return wanted
    usual = resource.default_scopes & asked.client.scopes if asked.client.scopes else resource.default_scopes
    return wanted | usual


def _asked_scopes(asked: Asked) -> frozenset[str]:
    text = asked.one("scope")
    if len(text) > LONGEST_SCOPE:
        raise InvalidScopeError("Scope is too long.")
    try:
        return parse_scope(text)
    except FlowError as error:
        raise InvalidScopeError("Scope holds characters that it may not hold.") from error


def _only(redirect_uris: Sequence[str]) -> str:
    if len(redirect_uris) != 1:
        raise InvalidRedirectUriError("The request does not say where to return to.")
    return redirect_uris[0]
