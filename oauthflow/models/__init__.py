"""What a sign-in in progress leaves in the database, and what happened to connections."""

from .authorization_request import AuthorizationRequest, hash_of
from .event import Event, EventType
from .issuer_health import IssuerHealth
from .notice import GivenWarning, MailPreference, Notice
from .webhook import CarrierPosition, Webhook, WebhookDelivery

__all__ = [
    "AuthorizationRequest",
    "CarrierPosition",
    "Event",
    "EventType",
    "GivenWarning",
    "IssuerHealth",
    "MailPreference",
    "Notice",
    "Webhook",
    "WebhookDelivery",
    "hash_of",
]
