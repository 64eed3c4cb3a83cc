"""What a sign-in in progress leaves in the database, and what happened to connections."""

from .authorization_request import AuthorizationRequest, hash_of
from .event import Event, EventType
from .issuer_health import IssuerHealth

__all__ = ["AuthorizationRequest", "Event", "EventType", "IssuerHealth", "hash_of"]
