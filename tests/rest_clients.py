"""Callers of the REST interface: a person in a browser, and a program with a token."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.utils import timezone
from rest_framework.test import APIClient

from connections.api_tokens import issue_api_token
from connections.models.api_token import ApiScope


def anonymous() -> APIClient:
    """Somebody without credentials; CSRF is checked as in production."""
    return APIClient(enforce_csrf_checks=True)


def in_browser(user: User) -> APIClient:
    """A signed-in person; requests count as sent by our own pages."""
    client = APIClient()
    client.force_login(user)
    return client


def with_token(user: User, *scopes: ApiScope) -> APIClient:
    """A program with a token of those scopes; without any named, with all."""
    issued = issue_api_token(user, scopes=scopes or ApiScope.values, name="laptop", now=timezone.now())
    client = APIClient(enforce_csrf_checks=True)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {issued.token.reveal()}")
    return client
