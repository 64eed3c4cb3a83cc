"""Who may call what: the scopes of a program's token, and the permissions of the person behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from rest_framework.authentication import SessionAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from .authentication import AccessTokenGrant
from .models import ApiToken
from .models.api_token import ApiScope

# Handing an access token to a program takes that program's own, deliberately widened token: what rides on somebody's
# session cannot do it. Z02.
SESSION_SCOPES: Final = frozenset(ApiScope) - {ApiScope.TOKENS_RELEASE}


def granted_scopes(auth: ApiToken | None) -> frozenset[ApiScope]:
    """Return what a caller may do at most.

    Args:
        auth: The API token that was presented; None for a person's own session.
    """
    if auth is None:
        return SESSION_SCOPES
    listed = auth.scopes if isinstance(auth.scopes, list) else []
    return frozenset(scope for scope in ApiScope if scope.value in listed)


def scopes_of(request: Request) -> frozenset[ApiScope]:
    """Return the scopes of a REST request; none for a kind of credential that is not known here.

    A session counts only through `SessionAuthentication`, which has checked the CSRF token of an unsafe request.
    """
    if isinstance(request.auth, ApiToken):
        return granted_scopes(request.auth)
    if isinstance(request.auth, AccessTokenGrant):
        held = request.auth.scopes
        return frozenset(scope for scope in ApiScope if scope.value in held)
    if isinstance(request.successful_authenticator, SessionAuthentication):
        return granted_scopes(None)
    return frozenset()


class HasScopes(BasePermission):
    """Allows a request whose credential carries the scope that the view's `required_scopes` names for its method.

    A method without an entry is refused: forgetting one closes the view.
    """

    code = "insufficient_scope"
    message = "The API token lacks a scope that this call needs."

    def has_permission(self, request: Request, view: Any) -> bool:
        if not request.user.is_authenticated:
            return False
        method = "GET" if request.method in {"HEAD", "OPTIONS"} else request.method
        required: Mapping[str, ApiScope] = getattr(view, "required_scopes", {})
        needed = required.get(method or "")
        if needed is None and not hasattr(view, (request.method or "").lower()):
            return True  # There is nothing to protect: the dispatcher answers 405.
        if needed is not None:
            self.message = f"This call needs an API token with the scope {needed.value}."
        return needed is not None and needed in scopes_of(request)


class MayEditServers(BasePermission):
    """Lets everybody read, and lets those write who hold Django's permission for the kind of change."""

    code = "permission_denied"
    message = "Changing servers takes a permission that your account does not have."
    permission_of_method: ClassVar[Mapping[str, str]] = {
        "POST": "connections.add_mcpserver",
        "PATCH": "connections.change_mcpserver",
        "DELETE": "connections.delete_mcpserver",
    }

    def has_permission(self, request: Request, view: Any) -> bool:
        needed = self.permission_of_method.get(request.method or "")
        return needed is None or request.user.has_perm(needed)
