"""Signing in, and what a person can change of their own account."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from allauth.account.views import LoginView
from allauth.mfa.utils import is_mfa_enabled
from allauth.socialaccount.models import SocialAccount
from allauth.socialaccount.providers.github import views as github
from allauth.socialaccount.providers.openid_connect import views as openid_connect
from django.apps import apps
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from connections.models import IdentityProvider
from oauthflow.egress.identity_providers import ProviderUnreachableError
from oauthflow.views.signed_in import SeeOther, SignedInRequest, leads_away, signed_in

ProviderView = Callable[[HttpRequest, IdentityProvider], HttpResponse]


class SignInView(LoginView):
    """The password form, and a button for each identity provider."""

    template_name = "accounts/login.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context_data(**kwargs)
        target = context.get("redirect_field_value") or ""
        return {**context, "providers": _providers(), "next": target, "program": _asking_program(target)}


@leads_away
@never_cache
def provider_sign_in(request: HttpRequest, provider_id: str) -> HttpResponse:
    """Send somebody to an identity provider, after a click on our own page and never by a link of another. AS08."""
    provider = _provider(provider_id)
    if request.method != "POST":
        return SeeOther(_sign_in_again(request))
    try:
        return _LEAVE[provider.uses_openid](request, provider)
    except ProviderUnreachableError:
        messages.error(request, f"{provider.name} cannot be reached at the moment.")
        return SeeOther(_sign_in_again(request))


@never_cache
@require_GET
def provider_callback(request: HttpRequest, provider_id: str) -> HttpResponse:
    """Take somebody back who was at an identity provider, in the same browser."""
    provider = _provider(provider_id)
    try:
        return _RETURN[provider.uses_openid](request, provider)
    except ProviderUnreachableError:
        messages.error(request, f"{provider.name} cannot be reached at the moment.")
        return SeeOther(reverse("account_login"))


# allauth's views, by whether the provider speaks OpenID Connect.
_LEAVE: Final[Mapping[bool, ProviderView]] = {
    True: lambda request, provider: openid_connect.login(request, provider.slug),
    False: lambda request, provider: github.oauth2_login(request),
}
_RETURN: Final[Mapping[bool, ProviderView]] = {
    True: lambda request, provider: openid_connect.callback(request, provider.slug),
    False: lambda request, provider: github.oauth2_callback(request),
}


def _provider(slug: str) -> IdentityProvider:
    return get_object_or_404(IdentityProvider, slug=slug, is_active=True)


def _sign_in_again(request: HttpRequest) -> str:
    target = request.POST.get("next") or request.GET.get("next")
    return reverse("account_login") + (f"?{urlencode({'next': target})}" if target else "")


class LinkedAccount(NamedTuple):
    """An account at a provider by which the person may sign in."""

    pk: int
    name: str


@leads_away
@signed_in("GET", "HEAD")
def account_page(request: SignedInRequest) -> HttpResponse:
    """Show what a person can change of their own account."""
    providers = {provider.slug: provider for provider in _providers()}
    held = SocialAccount.objects.filter(user=request.user).order_by("provider")
    linked = [LinkedAccount(row.pk, getattr(providers.pop(row.provider, None), "name", row.provider)) for row in held]
    context = {
        "has_second_factor": is_mfa_enabled(request.user),
        "linked": linked,
        "providers": list(providers.values()),
    }
    return render(request, "accounts/account.html", context)


def _asking_program(target: str) -> object:
    """Who wants something of the person, told before anybody is sent to a provider. P-03."""
    if not apps.is_installed("authserver"):
        return None
    from authserver.before_sign_in import asking_program

    return asking_program(target, now=timezone.now())


def _providers() -> list[IdentityProvider]:
    return list(IdentityProvider.objects.filter(is_active=True))
