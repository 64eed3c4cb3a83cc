"""What allauth asks us about sign-in through third parties: who they are, how to reach them, whom they may bring."""

from __future__ import annotations

from typing import Any

from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialApp, SocialLogin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from audit.events import AuditEvent
from audit.record import record
from connections.models import IdentityProvider
from oauthflow.egress.identity_providers import IdentityProviderSession


class ProviderAdapter(DefaultSocialAccountAdapter):
    """Takes providers from our own rows, whose secrets are sealed, and sends nothing but through the guard."""

    def list_apps(
        self, request: HttpRequest, provider: str | None = None, client_id: str | None = None
    ) -> list[SocialApp]:
        """Return the providers in use as rows of allauth's that are never saved."""
        apps = [_app(row) for row in IdentityProvider.objects.filter(is_active=True)]
        return [
            app
            for app in apps
            if (not provider or provider in {app.provider, app.provider_id})
            and (not client_id or app.client_id == client_id)
        ]

    def get_requests_session(self) -> IdentityProviderSession:
        return IdentityProviderSession()

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """Refuse an answer of another issuer than the one that is configured.

        Raises:
            PermissionDenied: The provider's ID token is missing or names another issuer.

        Spec: OpenID Connect Core §3.1.3.7; security notes AS19, U09.
        """
        row = _row(sociallogin)
        said = sociallogin.account.extra_data.get("id_token") or {}
        if row.uses_openid and said.get("iss") != row.issuer:
            raise PermissionDenied("The identity provider answered as somebody else.")
        # An address that nobody has verified is nobody's.
        sociallogin.email_addresses = [address for address in sociallogin.email_addresses if address.verified]

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        """Say whether somebody without an account here gets one by signing in."""
        row = _row(sociallogin)
        if row.newcomers == IdentityProvider.Newcomers.DOMAINS:
            return bool(_verified_domains(sociallogin) & row.domains)
        return row.newcomers == IdentityProvider.Newcomers.EVERYBODY

    def populate_user(self, request: HttpRequest, sociallogin: SocialLogin, data: dict[str, Any]) -> Any:
        """Suggest name and address, the latter only where the provider has verified it."""
        verified = {address.email.lower() for address in sociallogin.email_addresses if address.verified}
        email = str(data.get("email") or "")
        kept = email if email.lower() in verified else ""
        return super().populate_user(request, sociallogin, {**data, "email": kept})

    def on_authentication_error(
        self,
        request: HttpRequest,
        provider: Any,
        error: Any = None,
        exception: Exception | None = None,
        extra_context: dict[str, Any] | None = None,
    ) -> None:
        """Record a sign-in that did not come about; what the provider or a library said is not repeated."""
        why = type(exception).__name__ if exception else str(error or "unknown")
        record(AuditEvent.LOGIN_FAILED, reason=f"{provider.sub_id}: {why}")


def _app(row: IdentityProvider) -> SocialApp:
    return SocialApp(
        provider="openid_connect" if row.uses_openid else "github",
        provider_id=row.slug,
        name=row.name,
        client_id=row.client_id,
        secret=row.client_secret_sealed.reveal().reveal(),
        settings={"server_url": row.issuer, "oauth_pkce_enabled": True},
    )


def _row(sociallogin: SocialLogin) -> IdentityProvider:
    return IdentityProvider.objects.get(slug=sociallogin.account.provider, is_active=True)


def _verified_domains(sociallogin: SocialLogin) -> set[str]:
    return {address.email.lower().rpartition("@")[2] for address in sociallogin.email_addresses if address.verified}
