"""What the gateway keeps."""

from .inbound_trust import InboundTrust
from .legacy_session import LegacySession
from .policy import GroupPolicy, PolicyVersion, Rule, ServerPolicy
from .tool_definition import ToolDefinition
from .usage import CallArguments, Outcome, Usage

__all__ = [
    "CallArguments",
    "GroupPolicy",
    "InboundTrust",
    "LegacySession",
    "Outcome",
    "PolicyVersion",
    "Rule",
    "ServerPolicy",
    "ToolDefinition",
    "Usage",
]
