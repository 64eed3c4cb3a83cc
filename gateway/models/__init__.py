"""What the gateway keeps."""

from .inbound_trust import InboundTrust

__all__ = ["InboundTrust"]
