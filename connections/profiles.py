"""Known quirks of providers, as data. Chosen per server; what an administrator sets by hand goes first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Profile:
    """How one provider departs from what discovery alone would do.

    Attributes:
        name: For the choice in the admin.
        send_resource: Whether the RFC 8707 `resource` parameter is sent where the server's mode is automatic.
        authorization_parameters: Added to every authorization request.
        scopes: Asked for in addition to what the server names, for example to be given a refresh token.
        registration: Which way to get a client id where the server's setting is automatic.
        auth_method: How to authenticate at the token endpoint where the server's setting is automatic.
        accepted_issuer: A second spelling of the issuer that the provider's own metadata uses.
        milliseconds: Whether `expires_in` is given in milliseconds by mistake.
        lifetime_unknown: Whether tokens come without a lifetime and live until they are refused.
        note: What an administrator has to know or to do at the provider.
    """

    name: str
    send_resource: bool = True
    authorization_parameters: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    scopes: str = ""
    registration: str = "auto"
    auth_method: str = "auto"
    accepted_issuer: str = ""
    milliseconds: bool = False
    lifetime_unknown: bool = False
    note: str = ""


GENERIC: Final = Profile(name="Any server that follows the specification")

PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        "entra": Profile(
            name="Microsoft Entra ID",
            send_resource=False,
            # A prompt for consent would ask for an administrator where people may not consent; it gives offline access
            # without one.
            authorization_parameters=MappingProxyType({"prompt": "select_account"}),
            scopes="offline_access",
            registration="pre_registered",
            note="Register an application by hand. Entra refuses a resource parameter beside scopes (AADSTS9010010); "
            "name the scopes as <application id URI>/.default or one by one.",
        ),
        "google": Profile(
            name="Google",
            authorization_parameters=MappingProxyType({"access_type": "offline", "prompt": "consent"}),
            registration="pre_registered",
            accepted_issuer="https://accounts.google.com",
            note="Create an OAuth client of type web application. A refresh token comes only with offline access and "
            "a repeated consent; both are asked for.",
        ),
        "github": Profile(
            name="GitHub",
            registration="pre_registered",
            lifetime_unknown=True,
            note="Create an OAuth app or a GitHub App. OAuth apps give neither a lifetime nor a refresh token: the "
            "token is used until GitHub refuses it. People with several accounts connect once for each label.",
        ),
        "auth0": Profile(
            name="Auth0",
            send_resource=False,
            scopes="offline_access",
            note="Auth0 wants the API's identifier as the parameter audience: set the tenant's default audience.",
        ),
        "okta": Profile(
            name="Okta",
            scopes="offline_access",
            send_resource=False,
            note="Enter the custom authorization server's issuer, path included; its audience is fixed there.",
        ),
        "keycloak": Profile(
            name="Keycloak",
            note="Before the resource parameter is switched on in the realm, the audience needs a mapper. A Client ID "
            "Metadata Document is accepted only with a client policy for it.",
        ),
        "authentik": Profile(
            name="authentik", registration="pre_registered", note="Has no dynamic registration: create a provider."
        ),
        "slack": Profile(
            name="Slack",
            registration="pre_registered",
            note="Switch token rotation on in the app: tokens then live 12 hours and are refreshed here.",
        ),
        "linear": Profile(
            name="Linear", note="Access tokens live 24 hours; refresh tokens rotate and may be repeated for 30 minutes."
        ),
        "supabase": Profile(
            name="Supabase", note="Registrations may be forgotten by the server; this site then registers again."
        ),
        "aws": Profile(
            name="AWS", note="Registrations may be forgotten by the server; this site then registers again."
        ),
        "clerk": Profile(name="Clerk", milliseconds=True, note="Gives lifetimes in milliseconds."),
        "context7": Profile(name="Context7", milliseconds=True, note="Gives lifetimes in milliseconds."),
    }
)

PROFILE_CHOICES: Final = [(key, profile.name) for key, profile in PROFILES.items()]


def profile_of(key: str) -> Profile:
    """Return the profile of that key; unknown and empty keys give the generic one."""
    return PROFILES.get(key, GENERIC)
