"""What protected resources and authorization servers publish about themselves. URLs stay exactly as received."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from .errors import DiscoveryError, MalformedResponseError


@dataclass(frozen=True, slots=True)
class ProtectedResourceMetadata:
    """The document of an MCP server. RFC 9728 §2.

    `authorization_servers` is empty, and `scopes_supported` None, where the document leaves them out.
    """

    resource: str
    authorization_servers: tuple[str, ...]
    scopes_supported: tuple[str, ...] | None = None
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read the members that we use, and check their types only.

        Raises:
            DiscoveryError: There is no `resource`.
            MalformedResponseError: A member has another type than RFC 9728 §2 gives it.

        Spec: RFC 9728 §2.
        """
        return cls(
            resource=_required_text(document, "resource"),
            authorization_servers=_texts(document, "authorization_servers") or (),
            scopes_supported=_texts(document, "scopes_supported"),
            document=document,
        )


@dataclass(frozen=True, slots=True)
class AuthorizationServerMetadata:
    """The document of an authorization server. RFC 8414 §2, OpenID Connect Discovery 1.0 §3.

    None means that the document has no such member; what that means is for the reader to decide. The
    `authorization_endpoint` is empty where the server says that it has no grant for people.
    """

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    registration_endpoint: str | None = None
    revocation_endpoint: str | None = None
    introspection_endpoint: str | None = None
    scopes_supported: tuple[str, ...] | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] | None = None
    code_challenge_methods_supported: tuple[str, ...] | None = None
    grant_types_supported: tuple[str, ...] | None = None
    iss_parameter_supported: bool = False
    client_id_metadata_document_supported: bool = False
    signing_algs: tuple[str, ...] | None = None
    dpop_signing_algs: tuple[str, ...] | None = None
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read the members that we use, and check their types only.

        Raises:
            DiscoveryError: There is no `issuer` or `token_endpoint`, or an `authorization_endpoint` is missing.
            MalformedResponseError: A member has another type than RFC 8414 §2 gives it.

        Spec: RFC 8414 §2; RFC 9207 §3. A-12, R-14.
        """
        return cls(
            issuer=_required_text(document, "issuer"),
            authorization_endpoint=_authorization_endpoint(document),
            token_endpoint=_required_text(document, "token_endpoint"),
            registration_endpoint=_text(document, "registration_endpoint"),
            revocation_endpoint=_text(document, "revocation_endpoint"),
            introspection_endpoint=_text(document, "introspection_endpoint"),
            scopes_supported=_texts(document, "scopes_supported"),
            token_endpoint_auth_methods_supported=_texts(document, "token_endpoint_auth_methods_supported"),
            code_challenge_methods_supported=_texts(document, "code_challenge_methods_supported"),
            grant_types_supported=_texts(document, "grant_types_supported"),
            iss_parameter_supported=_flag(document, "authorization_response_iss_parameter_supported"),
            client_id_metadata_document_supported=_flag(document, "client_id_metadata_document_supported"),
            signing_algs=_texts(document, "token_endpoint_auth_signing_alg_values_supported"),
            dpop_signing_algs=_texts(document, "dpop_signing_alg_values_supported"),
            document=document,
        )


def _text(document: Mapping[str, Any], name: str) -> str | None:
    """Null and empty text count as left out: servers write both for what they do not offer."""
    value = document.get(name)
    if value is not None and not isinstance(value, str):
        raise MalformedResponseError(f"{name} is not text")
    return value or None


def _required_text(document: Mapping[str, Any], name: str) -> str:
    value = _text(document, name)
    if value is None:
        raise DiscoveryError(f"the metadata has no {name}")
    return value


def _authorization_endpoint(document: Mapping[str, Any]) -> str:
    """RFC 8414 §2: required unless no grant type uses it; an absent list means that one does."""
    offered = _texts(document, "grant_types_supported")
    if offered is None or {"authorization_code", "implicit"} & set(offered):
        return _required_text(document, "authorization_endpoint")
    return _text(document, "authorization_endpoint") or ""


def _texts(document: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    value = document.get(name)
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise MalformedResponseError(f"{name} is not a list of texts")
    return tuple(value)


def _flag(document: Mapping[str, Any], name: str) -> bool:
    value = document.get(name)
    if value is not None and not isinstance(value, bool):
        raise MalformedResponseError(f"{name} is neither true nor false")
    return value is True
