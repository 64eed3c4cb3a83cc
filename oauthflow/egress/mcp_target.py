"""Which MCP server is meant, without the SDK that speaks to it: that takes 40 MB, which not every process needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from oauthflow.protocol.secret import Secret


@dataclass(frozen=True, slots=True)
class McpTarget:
    """Where an MCP server is: a URL, or a program with its arguments and environment."""

    transport: Literal["streamable_http", "sse", "stdio"]
    url: str = ""
    command: str = ""
    arguments: Sequence[str] = ()
    environment: Mapping[str, Secret] = field(default_factory=dict)
    timeout_seconds: float = 60
