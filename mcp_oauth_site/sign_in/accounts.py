"""What allauth asks us about accounts: nobody makes one alone, and attempts are counted by the real address."""

from __future__ import annotations

import time
from typing import Any, Final

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.flows.login import get_authentication_records
from allauth.core import context
from django.http import HttpRequest

_RECENT_SECONDS: Final = 300


class AccountAdapter(DefaultAccountAdapter):
    """Accounts are made by administrators, or by a provider that may bring newcomers."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        """Return the address of whoever attempts to sign in.

        The server has put the one that a trusted proxy vouches for there already; no header is looked at. Z12.
        """
        return str(request.META.get("REMOTE_ADDR", ""))

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        """Ask again before an account is changed, except of somebody who has just signed in, in whichever way."""
        request = context.request
        signed_in = [said["at"] for said in get_authentication_records(request, request.user)]
        return not signed_in or time.time() - max(signed_in) > _RECENT_SECONDS
