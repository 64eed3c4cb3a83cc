"""The settings of allauth: no accounts by themselves, nothing by e-mail, limits on attempts, sealed second factors."""

from __future__ import annotations

from typing import Any


def sign_in_settings(*, https: bool) -> dict[str, Any]:
    """Return what `allauth` reads.

    An account is found by issuer and `sub` alone: an e-mail address that a careless provider confirms would take over
    somebody else's. Spec: security notes Z12, AS19.
    """
    return {
        "ACCOUNT_ADAPTER": "mcp_oauth_site.sign_in.accounts.AccountAdapter",
        "ACCOUNT_LOGIN_METHODS": {"username"},
        "ACCOUNT_SIGNUP_FIELDS": ["username*", "password1*"],
        "ACCOUNT_UNIQUE_EMAIL": False,
        "ACCOUNT_EMAIL_VERIFICATION": "none",
        "ACCOUNT_PREVENT_ENUMERATION": True,
        "ACCOUNT_SESSION_REMEMBER": True,
        "ACCOUNT_DEFAULT_HTTP_PROTOCOL": "https" if https else "http",
        # Linking a provider and changing second factors are for somebody who has just shown who they are.
        "ACCOUNT_REAUTHENTICATION_REQUIRED": True,
        "ACCOUNT_RATE_LIMITS": {
            "login": "60/15m/ip",
            "login_failed": "5/15m/key,50/15m/ip",
            "reauthenticate": "10/15m/user",
            "change_password": "5/15m/user",
        },
        "SOCIALACCOUNT_ADAPTER": "mcp_oauth_site.sign_in.providers.ProviderAdapter",
        "SOCIALACCOUNT_OPENID_CONNECT_URL_PREFIX": "",
        "SOCIALACCOUNT_AUTO_SIGNUP": True,
        "SOCIALACCOUNT_EMAIL_AUTHENTICATION": False,
        "SOCIALACCOUNT_EMAIL_VERIFICATION": "none",
        "SOCIALACCOUNT_LOGIN_ON_GET": False,
        "SOCIALACCOUNT_STORE_TOKENS": False,
        "SOCIALACCOUNT_QUERY_EMAIL": True,
        "MFA_ADAPTER": "mcp_oauth_site.sign_in.second_factors.SecondFactorAdapter",
        # Nobody makes an account alone, so nobody could lock the owner of an address out of one.
        "MFA_ALLOW_UNVERIFIED_EMAIL": True,
        "MFA_TOTP_TOLERANCE": 1,  # phones go wrong by half a minute
        "MFA_SUPPORTED_TYPES": ["totp", "recovery_codes"],
    }
