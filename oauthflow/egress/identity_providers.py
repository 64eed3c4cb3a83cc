"""The session in which allauth asks identity providers: policy, guard and limits of every other request of ours."""

from __future__ import annotations

from typing import Any

import requests

from ..protocol.errors import FlowError
from .addresses import Allowance, require_url
from .blocking import GuardedSession, leave_database
from .limits import Budget, Limits, spending

ProviderUnreachableError = requests.RequestException
"""What allauth, and so whoever calls it, meets where a provider gave no usable answer."""


class IdentityProviderSession(GuardedSession):
    """Sends what allauth asks for, follows no redirect, and fails only as allauth expects."""

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        """Send one request and return an answer of status 2xx.

        Raises:
            ProviderUnreachableError: The address may not be contacted, or there was no such answer in time. It holds
                nothing of request or answer.
        """
        leave_database()
        try:
            allowed = require_url(url if isinstance(url, str) else url.decode(), allowed=Allowance.current())
            with spending(Budget(Limits.TOKEN)):
                answer = super().request(method, allowed.url, *args, **{**kwargs, "allow_redirects": False})
        except (FlowError, requests.RequestException, OSError) as error:
            why = type(error).__name__
        else:
            if 200 <= answer.status_code < 300:
                return answer
            why = f"status {answer.status_code}"
        raise ProviderUnreachableError(why)
