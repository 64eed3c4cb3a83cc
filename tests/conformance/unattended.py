"""How the scenarios of the extensions are configured: what the suite tells in its context, as settings of a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Configure = Callable[..., str]
USED = "The tools were used through the product."

EXTENSIONS = frozenset(
    f"auth/{name}"
    for name in (
        "client-credentials-jwt", "client-credentials-basic", "enterprise-managed-authorization", "dpop", "dpop-nonce",
        "wif-jwt-bearer",
    )
)  # fmt: skip


def settings_for(scenario: str, context: dict[str, Any], configure: Configure) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the server's settings, and what the connection is made with besides."""
    client = {name: context[name] for name in ("client_id", "client_secret") if name in context}
    match scenario:
        case "auth/client-credentials-jwt":
            return {**client, "grant_type": "client_credentials", "client_private_key": context["private_key_pem"]}, {}
        case "auth/client-credentials-basic":
            return {**client, "grant_type": "client_credentials"}, {}
        case "auth/enterprise-managed-authorization":
            sign_in = configure(
                context["idp_issuer"],
                issuer=context["idp_issuer"],
                authorization_endpoint=f"{context['idp_issuer']}/authorize",
                token_endpoint=context["idp_token_endpoint"],
                client_id=context["idp_client_id"],
                token_endpoint_auth_method="none",
            )
            settings = {**client, "grant_type": "token_exchange", "identity_provider": sign_in}
            return settings, {"subject_token": context["idp_id_token"]}
        case "auth/wif-jwt-bearer":
            return {"grant_type": "jwt_bearer", "assertion": context["valid_jwt"]}, {}
    return client, {}
