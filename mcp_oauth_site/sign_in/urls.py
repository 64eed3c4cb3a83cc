"""Below /accounts/: only those pages of allauth that this site has a use for."""

from __future__ import annotations

from allauth.account import views as account
from allauth.socialaccount import views as third_party
from django.contrib.auth.views import PasswordResetConfirmView
from django.urls import include, path
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from oauthflow.views.signed_in import leads_away

from .views import SignInView, account_page, provider_callback, provider_sign_in

_GITHUB = {"provider_id": "github"}
_CHOOSE_PASSWORD = {"template_name": "accounts/set_password.html", "success_url": "/accounts/login/"}

urlpatterns = [
    path("", account_page, name="account"),
    path("login/", leads_away(SignInView.as_view()), name="account_login"),
    path("logout/", require_POST(account.logout), name="account_logout"),
    path("inactive/", never_cache(account.account_inactive), name="account_inactive"),
    path("reauthenticate/", account.reauthenticate, name="account_reauthenticate"),
    path("password/change/", account.password_change, name="account_change_password"),
    path("password/set/", account.password_set, name="account_set_password"),
    path(
        "reset/<uidb64>/<token>/",
        PasswordResetConfirmView.as_view(**_CHOOSE_PASSWORD),
        name="password_reset_confirm",
    ),
    path("2fa/", include("allauth.mfa.urls")),
    path("3rdparty/", third_party.connections, name="socialaccount_connections"),
    path("3rdparty/login/cancelled/", never_cache(third_party.login_cancelled), name="socialaccount_login_cancelled"),
    path("3rdparty/login/error/", never_cache(third_party.login_error), name="socialaccount_login_error"),
    path("3rdparty/signup/", third_party.signup, name="socialaccount_signup"),
    # By these four names allauth finds its own way.
    path("github/login/", provider_sign_in, _GITHUB, name="github_login"),
    path("github/login/callback/", provider_callback, _GITHUB, name="github_callback"),
    path("<slug:provider_id>/login/", provider_sign_in, name="openid_connect_login"),
    path("<slug:provider_id>/login/callback/", provider_callback, name="openid_connect_callback"),
]
