"""What the gateway keeps."""

from .inbound_trust import InboundTrust
from .legacy_session import LegacySession

__all__ = ["InboundTrust", "LegacySession"]
