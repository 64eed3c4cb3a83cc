"""What a sign-in in progress leaves in the database, and what happened to connections."""

from .authorization_request import AuthorizationRequest, hash_of
from .event import Event, EventType

__all__ = ["AuthorizationRequest", "Event", "EventType", "hash_of"]
