"""What allauth asks us about accounts: nobody makes one alone, and attempts are counted by the real address."""

from __future__ import annotations

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest


class AccountAdapter(DefaultAccountAdapter):
    """Accounts are made by administrators, or by a provider that may bring newcomers."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        """Return the address of whoever attempts to sign in.

        The server has put the one that a trusted proxy vouches for there already; no header is looked at. Z12.
        """
        return str(request.META.get("REMOTE_ADDR", ""))
