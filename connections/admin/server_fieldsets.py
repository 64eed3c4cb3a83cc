"""The parts of a server's form, in the order in which somebody fills them in."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings

from ..models import McpServer
from ..serializers import SECRET_FIELDS

FORM_ONLY: Final = frozenset({f"{verb}_{name}" for verb in ("new", "clear") for name in SECRET_FIELDS}) | {
    "confirm_target"
}
"""Boxes that belong to the form and not to the row."""

_SHARED_CLIENT: Final = (
    "Needed only where a service neither registers this site by itself nor reads its metadata document, and for access "
    "without a person. "
    "<strong>One client for everybody:</strong> all people who connect to this server use it, so it must not be "
    "somebody's own."
)

_WITHOUT_A_PERSON: Final = (
    "Usually from a person who signs in. <strong>This site by itself</strong> uses the client entered below (client "
    "credentials). <strong>The company's sign-in</strong>, an entry of its own here, vouches for the person, and the "
    "client below presents that (enterprise-managed). <strong>Workload identity</strong> presents the platform's JWT "
    "and needs no client. Binding by DPoP makes a stolen token useless; <em>always</em> refuses plain tokens."
)

_SERVER: Final = ("name", "slug", "description", "url", "transport", "auth_type", "status", "documentation_url")
_GRANT: Final = (
    "grant_type", "identity_provider", "assertion_source", "new_assertion", "clear_assertion",
    "dpop_bound_access_tokens",
)  # fmt: skip
_SIGN_IN: Final = ("issuer", "scopes", "metadata_ttl_minutes", "profile", "registration")
_CLIENT: Final = (
    "address_to_register", "client_id", "new_client_secret", "clear_client_secret", "new_client_private_key",
    "clear_client_private_key", "token_endpoint_auth_method",
)  # fmt: skip
_FIXED: Final = ("header_name", "new_static_credential", "clear_static_credential")
_PROGRAM: Final = ("command", "arguments", "new_environment", "clear_environment")
_PEOPLE: Final = ("connection_policy", "users", "groups", "link_to_hand_out")
_LIMITS: Final = ("request_timeout_seconds", "gateway_enabled")
_SPECIAL: Final = (
    "resource_mode", "resource", "accepted_issuer", "authorization_endpoint", "token_endpoint", "revocation_endpoint",
    "assume_pkce",
)  # fmt: skip

Fieldsets = list[tuple[str, dict[str, Any]]]


def fieldsets(server: McpServer | None) -> Fieldsets:
    """Return the parts that make sense for this server; None: a new one."""
    parts: Fieldsets = [
        ("Confirm the new target", {"fields": ("confirm_target",), "classes": ("site-confirm",)}),
        ("Server", {"fields": _SERVER}),
        ("Signing in", {
            "fields": _SIGN_IN, "classes": ("for-oauth",),
            "description": "All of this may stay as it is for a server that follows the specification.",
        }),
        ("How access is obtained", {"fields": _GRANT, "classes": ("for-oauth",), "description": _WITHOUT_A_PERSON}),
        ("Fallback client", {"fields": _CLIENT, "classes": ("for-oauth",), "description": _SHARED_CLIENT}),
        ("Fixed credential", {
            "fields": _FIXED, "classes": ("for-fixed",),
            "description": "Sent with every call, the same for everybody who may use this server.",
        }),
        ("Who may use it", {"fields": _PEOPLE}),
        ("Limits", {"fields": _LIMITS}),
        ("Special cases", {
            "fields": _SPECIAL, "classes": ("for-oauth", "collapse"),
            "description": "For services that depart from the specification. "
            "What is entered here decides where tokens are sent.",
        }),
    ]  # fmt: skip
    if settings.STDIO_SERVERS_ALLOWED or (server and server.transport == McpServer.Transport.STDIO):
        parts.insert(6, ("Local program", {"fields": _PROGRAM, "classes": ("for-program",)}))
    return [(name, {**part, "fields": _that_make_sense(part["fields"], server)}) for name, part in parts]


def without_form_only(parts: Fieldsets) -> Fieldsets:
    """Leave out what only makes sense to somebody who may change something."""
    kept = [(name, {**part, "fields": [field for field in part["fields"] if field not in FORM_ONLY]})
            for name, part in parts]  # fmt: skip
    return [(name, part) for name, part in kept if part["fields"]]


def _that_make_sense(fields: tuple[str, ...], server: McpServer | None) -> list[str]:
    nothing_stored = {
        f"clear_{name}" for name in SECRET_FIELDS if server is None or not getattr(server, f"{name}_sealed")
    }
    not_yet = {"link_to_hand_out"} if server is None else set()
    return [field for field in fields if field not in nothing_stored | not_yet]
