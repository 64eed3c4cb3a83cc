"""Write servers into the file formats of MCP clients. Secrets are left out; a mark says where one is set. L05."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import yaml

from oauthflow.protocol.errors import SecretUnreadableError

from ..models import McpServer
from ..serializers import SECRET_FIELDS, ServerSerializer
from .masking import masked_arguments, masked_url
from .registry import OWN_NAMESPACE
from .site_file import MARKER, VERSION

_CLIENT_TYPES = {McpServer.Transport.STREAMABLE_HTTP: "http", McpServer.Transport.SSE: "sse"}
_REGISTRY_TYPES = {McpServer.Transport.STREAMABLE_HTTP: "streamable-http", McpServer.Transport.SSE: "sse"}
_ALWAYS = frozenset({"name", "slug", "url", "transport", "auth_type"})


class ExportFormat(StrEnum):
    """The formats that can be written."""

    YAML = "yaml"
    MCP_SERVERS = "mcpServers"
    VS_CODE = "vscode"
    REGISTRY = "server.json"

    @property
    def file_name(self) -> str:
        """What the file is usually called."""
        names = {self.YAML: "mcp-servers.yaml", self.MCP_SERVERS: "mcp.json", self.VS_CODE: "mcp.json"}
        return names.get(self, "servers.json")

    @property
    def media_type(self) -> str:
        """Its content type."""
        return "application/yaml" if self is ExportFormat.YAML else "application/json"


def export_servers(servers: Iterable[McpServer], *, kind: ExportFormat) -> str:
    """Return the text of a file with these servers.

    Args:
        servers: With `users` and `groups` prefetched where there are many.
        kind: Which format; `server.json` leaves out local programs, which have no remote address.
    """
    if kind is ExportFormat.YAML:
        listed = {MARKER: VERSION, "servers": [_site_entry(server) for server in servers]}
        return yaml.safe_dump(listed, sort_keys=False, allow_unicode=True)
    if kind is ExportFormat.MCP_SERVERS:
        document: dict[str, Any] = {
            "mcpServers": {server.slug: _client_entry(server, marks=_environment_mark) for server in servers}
        }
    elif kind is ExportFormat.VS_CODE:
        document = _vs_code(list(servers))
    else:
        remote = (server for server in servers if server.transport in _REGISTRY_TYPES)
        document = {"servers": [{"server": _registry_entry(server)} for server in remote]}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _site_entry(server: McpServer) -> dict[str, Any]:
    shown: Mapping[str, Any] = ServerSerializer(server).data
    usual: Mapping[str, Any] = {field.name: field.get_default() for field in McpServer._meta.concrete_fields}
    plain = json.loads(json.dumps(dict(shown)))
    plain |= {"url": masked_url(server.url), "arguments": masked_arguments(server.arguments)}
    secret_marks = {f"{name}_set" for name in SECRET_FIELDS}
    return {
        name: value
        for name, value in plain.items()
        if name in _ALWAYS or (value if name in secret_marks | {"users", "groups"} else value != usual.get(name))
    }


def _environment_mark(server: McpServer, what: str) -> str:
    return f"${{{server.slug.upper().replace('-', '_')}_{what.upper()}}}"


def _input_mark(server: McpServer, what: str) -> str:
    return f"${{input:{server.slug}-{what.lower().replace('_', '-')}}}"


def _client_entry(server: McpServer, *, marks: Any) -> dict[str, Any]:
    if server.transport == McpServer.Transport.STDIO:
        entry: dict[str, Any] = {"type": "stdio", "command": server.command, "args": masked_arguments(server.arguments)}
        if names := _variable_names(server):
            entry["env"] = {name: marks(server, name) for name in names}
        return entry
    entry = {"type": _CLIENT_TYPES[McpServer.Transport(server.transport)], "url": masked_url(server.url)}
    if server.static_credential_sealed and server.auth_type == McpServer.AuthType.BEARER:
        entry["headers"] = {"Authorization": f"Bearer {marks(server, 'token')}"}
    elif server.static_credential_sealed and server.auth_type == McpServer.AuthType.HEADER:
        entry["headers"] = {server.header_name: marks(server, "token")}
    elif server.auth_type == McpServer.AuthType.OAUTH and server.client_id:
        entry["auth"] = {"CLIENT_ID": server.client_id, "scopes": server.scopes.split()}
        if server.client_secret_sealed:
            entry["auth"]["CLIENT_SECRET"] = marks(server, "client_secret")
    return entry


def _vs_code(servers: list[McpServer]) -> dict[str, Any]:
    inputs: list[dict[str, Any]] = []

    def mark(server: McpServer, what: str) -> str:
        text = _input_mark(server, what)
        identifier = text.removeprefix("${input:").removesuffix("}")
        described = f"{server.name}: {what.replace('_', ' ')}"
        inputs.append({"type": "promptString", "id": identifier, "description": described, "password": True})
        return text

    entries = {server.slug: _client_entry(server, marks=mark) for server in servers}
    return {"inputs": inputs, "servers": entries}


def _registry_entry(server: McpServer) -> dict[str, Any]:
    remote: dict[str, Any] = {
        "type": _REGISTRY_TYPES[McpServer.Transport(server.transport)],
        "url": masked_url(server.url),
    }
    if server.auth_type in (McpServer.AuthType.BEARER, McpServer.AuthType.HEADER):
        is_bearer = server.auth_type == McpServer.AuthType.BEARER
        name = "Authorization" if is_bearer else server.header_name
        value = "Bearer {token}" if is_bearer else "{token}"
        remote["headers"] = [{"name": name, "value": value, "isRequired": True, "isSecret": True}]
    entry = {
        "name": f"{OWN_NAMESPACE}{server.slug}",
        "title": server.name,
        "description": server.description,
        "version": "1.0.0",
        "websiteUrl": server.documentation_url,
        "status": "deprecated" if server.status == McpServer.Status.DEPRECATED else "",
        "remotes": [remote],
    }
    return {name: value for name, value in entry.items() if value}


def _variable_names(server: McpServer) -> list[str]:
    """Return the names, never the values, of the stored variables; unreadable ones cannot be named."""
    try:
        text = server.environment_sealed.reveal().reveal()
    except SecretUnreadableError:
        return []
    return sorted(json.loads(text)) if text else []
