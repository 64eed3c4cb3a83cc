"""The metadata a client registers, by RFC 7591 or by its metadata document."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from oauthflow.protocol.client_auth import AUTH_METHODS, BASIC, PRIVATE_KEY_JWT
from oauthflow.protocol.errors import FlowError, MalformedResponseError
from oauthflow.protocol.json_documents import parse_json_object
from oauthflow.protocol.urls import parse_http_url

from .client_names import clean_name
from .errors import InvalidClientMetadataError
from .redirect_uri import check_redirect_uris

LONGEST_BODY_BYTES: Final = 16 * 1024
CLIENT_GRANT_TYPES: Final = ("authorization_code", "refresh_token")
_LONGEST_URL: Final = 1000
_MOST_KEYS: Final = 10
# What a private or a symmetric JWK has and a public one has not. RFC 7518 §6.
_PRIVATE_MEMBERS: Final = frozenset({"d", "k", "p", "q", "dp", "dq", "qi", "oth"})
_KEY_MEMBERS: Final = {"EC": ("crv", "x", "y"), "RSA": ("n", "e"), "OKP": ("crv", "x")}

_NOT_RELIED_ON: Final = ("client_uri", "grant_types", "fetched_keys")


@dataclass(frozen=True, slots=True)
class RegisteredMetadata:
    """What we take of the metadata of a client; all else that it sends is not registered.

    Attributes:
        redirect_uris: 1 to 10, as sent.
        auth_method: Token endpoint authentication method.
        grant_types: A subset of code and refresh.
        name: Cleaned; may be empty.
        client_uri: Its home page; may be empty.
        jwks: Public keys by value; None unless the method needs keys.
        jwks_uri: Or where they are; empty unless the method needs keys.
        fetched_keys: What was found there, once somebody looked.
    """

    redirect_uris: tuple[str, ...]
    auth_method: str
    grant_types: tuple[str, ...]
    name: str
    client_uri: str
    jwks: dict[str, Any] | None
    jwks_uri: str
    fetched_keys: dict[str, Any] | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that a person relied on when consenting: a change of it asks for a new consent. AS04."""
        said = {name: value for name, value in asdict(self).items() if name not in _NOT_RELIED_ON}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def read_registration(body: bytes) -> tuple[RegisteredMetadata, dict[str, Any]]:
    """Check a registration request and return what is registered of it, and the document itself.

    Args:
        body: At most 16 KiB of JSON.

    Raises:
        InvalidClientMetadataError: Not one JSON object, or a member that we do not take.
        UnusableRedirectUriError: A redirect URI that we do not take.

    Spec: RFC 7591 §2, §3.1; security notes AS02. X-10.
    """
    document = read_client_json(body, most_bytes=LONGEST_BODY_BYTES)
    return metadata_of(document, default_method=BASIC, methods=AUTH_METHODS), document


def read_client_json(body: bytes, *, most_bytes: int) -> dict[str, Any]:
    """Read one JSON object of a client.

    Raises:
        InvalidClientMetadataError: It is too large, no JSON, or no object.
    """
    if len(body) > most_bytes:
        raise InvalidClientMetadataError(f"the metadata is larger than {most_bytes} bytes")
    try:
        return parse_json_object(body)
    except MalformedResponseError as error:
        raise InvalidClientMetadataError("the metadata is not one JSON object", detail=error.detail) from error


def metadata_of(document: Mapping[str, Any], *, default_method: str, methods: frozenset[str]) -> RegisteredMetadata:
    """Check the members of client metadata.

    `logo_uri`, `software_statement`, `contacts`, `scope` and everything unknown are left alone: nothing is fetched or
    shown because a client asks for it, and what it may do is for the person to say.

    Args:
        document: JSON object.
        default_method: Authentication method of a document that names none.
        methods: The methods that it may name.

    Raises:
        InvalidClientMetadataError: A member that we do not take.
        UnusableRedirectUriError: A redirect URI that we do not take.

    Spec: RFC 7591 §2. AS02, AS16.
    """
    auth_method = _text(document, "token_endpoint_auth_method") or default_method
    if auth_method not in methods:
        raise InvalidClientMetadataError("this token_endpoint_auth_method is not offered")
    if _texts(document, "response_types", default=("code",)) != ("code",):
        raise InvalidClientMetadataError("response_types can only be code")
    if _text(document, "application_type") not in ("", "web", "native"):
        raise InvalidClientMetadataError("application_type has to be web or native")
    jwks, jwks_uri = _keys(document, needed=auth_method == PRIVATE_KEY_JWT)
    return RegisteredMetadata(
        redirect_uris=check_redirect_uris(document.get("redirect_uris")),
        auth_method=auth_method,
        grant_types=_grant_types(document),
        name=clean_name(document.get("client_name")),
        client_uri=_https_url(document, "client_uri"),
        jwks=jwks,
        jwks_uri=jwks_uri,
    )


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidClientMetadataError(f"{name} has to be a text")
    return value


def _texts(document: Mapping[str, Any], name: str, *, default: tuple[str, ...]) -> tuple[str, ...]:
    value = document.get(name)
    if value is None:
        return default
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value) or not 1 <= len(value) <= 10:
        raise InvalidClientMetadataError(f"{name} has to be a list of texts")
    return tuple(value)


def _grant_types(document: Mapping[str, Any]) -> tuple[str, ...]:
    asked = _texts(document, "grant_types", default=("authorization_code",))
    if "authorization_code" not in asked or not set(asked) <= set(CLIENT_GRANT_TYPES):
        raise InvalidClientMetadataError("grant_types can only be authorization_code, and refresh_token beside it")
    return tuple(grant for grant in CLIENT_GRANT_TYPES if grant in asked)


def _https_url(document: Mapping[str, Any], name: str) -> str:
    value = _text(document, name)
    if not value:
        return ""
    try:
        if len(value) > _LONGEST_URL or parse_http_url(value).scheme != "https":
            raise InvalidClientMetadataError(f"{name} has to be an https address")
    except FlowError as error:
        raise InvalidClientMetadataError(f"{name} has to be an https address", detail=error.detail) from error
    return value


def _keys(document: Mapping[str, Any], *, needed: bool) -> tuple[dict[str, Any] | None, str]:
    value, jwks_uri = document.get("jwks"), _https_url(document, "jwks_uri")
    if value is not None and jwks_uri:
        raise InvalidClientMetadataError("jwks and jwks_uri exclude each other")
    jwks = None if value is None else check_jwks(value)
    if not needed:
        return None, ""
    if jwks is None and not jwks_uri:
        raise InvalidClientMetadataError("private_key_jwt needs jwks or jwks_uri")
    return jwks, jwks_uri


def check_jwks(value: object) -> dict[str, Any]:
    """Check a set of public keys.

    Raises:
        InvalidClientMetadataError: Not 1 to 10 public EC, RSA or OKP keys, or one that gives a private part away.

    Spec: RFC 7517 §5; RFC 7591 §2.
    """
    keys = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(keys, list) or not 1 <= len(keys) <= _MOST_KEYS or not all(_is_public(key) for key in keys):
        raise InvalidClientMetadataError(f"jwks has to be a set of 1 to {_MOST_KEYS} public keys")
    return {"keys": keys}


def _is_public(key: object) -> bool:
    if not isinstance(key, dict) or key.keys() & _PRIVATE_MEMBERS:
        return False
    members = _KEY_MEMBERS.get(str(key.get("kty")))
    return members is not None and all(isinstance(key.get(name), str) and key[name] for name in members)
