"""Who may call what, and whose things are whose: the rules of REST, for resolvers."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID

from graphql import GraphQLResolveInfo

from connections.models import Connection
from connections.models.api_token import ApiScope
from connections.permissions import scopes_of

if TYPE_CHECKING:
    from django.contrib.auth.models import User

Answer = TypeVar("Answer")
Resolver = Callable[..., Answer]


class RefusedError(Exception):
    """The caller may not have this; `code` and `message` are shown."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code)
        self.code = code
        self.message = message


class NotFoundError(RefusedError):
    """There is nothing of that id, or it is somebody else's: one answer for both. Z01."""

    def __init__(self) -> None:
        super().__init__("not_found", "There is nothing here, or nothing of yours.")


def needs(scope: ApiScope) -> Callable[[Resolver[Answer]], Resolver[Answer]]:
    """Let a resolver run only for a credential that carries the scope."""

    def decorate(resolver: Resolver[Answer]) -> Resolver[Answer]:
        @wraps(resolver)
        def checked(root: object, info: GraphQLResolveInfo, **arguments: Any) -> Answer:
            if scope not in scopes_of(info.context):
                raise RefusedError("insufficient_scope", f"This call needs an API token with the scope {scope.value}.")
            return resolver(root, info, **arguments)

        return checked

    return decorate


def person(info: GraphQLResolveInfo) -> User:
    """Return who asks, or whose token asks; the view lets nobody else in."""
    return cast("User", info.context.user)


def visible_connection(user: User, connection_id: str) -> Connection:
    """Return a connection that is the user's or shared with them.

    Raises:
        NotFoundError: There is none of that id, or it is somebody else's.
    """
    try:
        wanted = UUID(connection_id)
    except ValueError as error:
        raise NotFoundError from error
    found = Connection.objects.visible_to(user).filter(pk=wanted).first()
    if found is None:
        raise NotFoundError
    return found


def usable_connection(user: User, connection_id: str) -> Connection:
    """Return a visible connection of a server that is in use and that the user may use at this moment.

    Raises:
        NotFoundError: As `visible_connection`.
        RefusedError: The server was closed to the user since they connected; they can still disconnect.
    """
    connection = visible_connection(user, connection_id)
    if not Connection.objects.usable_by(user).filter(pk=connection.pk).exists():
        raise RefusedError("permission_denied", "This server is not open to you any more.")
    return connection


def managed_connection(user: User, connection_id: str) -> Connection:
    """Return a visible connection whose grant the user may change or end.

    Raises:
        NotFoundError: As `visible_connection`.
        RefusedError: It is shared and the user does not manage shared connections.
    """
    connection = visible_connection(user, connection_id)
    if connection.is_shared and not user.has_perm("connections.manage_shared_connection"):
        raise RefusedError("permission_denied", "This connection is shared and managed by administrators.")
    return connection
