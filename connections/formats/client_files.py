"""Entries of `mcpServers` (Claude Desktop, Cursor and others) and of VS Code's `servers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from .credentials import credential_of_headers, environment_of
from .entry import EntryError, ServerEntry, slug_for, text_of, texts_of
from .placeholders import find_placeholder

_TRANSPORTS: Final = {
    "http": "streamable_http",
    "streamablehttp": "streamable_http",
    "sse": "sse",
    "stdio": "stdio",
    "local": "stdio",
    "remote": "streamable_http",
}
_KNOWN: Final = frozenset(
    {
        "type", "transport", "url", "serverUrl", "httpUrl", "headers", "command", "args", "env", "description",
        "disabled", "enabled", "auth", "oauth", "name",
    }
)  # fmt: skip


def read_client_entry(name: str, body: object) -> ServerEntry:
    """Read one entry.

    Raises:
        EntryError: It names neither an address nor a command, or a part has a wrong type.
    """
    if not isinstance(body, Mapping):
        raise EntryError("the entry is not an object")
    values: dict[str, object] = {"name": text_of(body, "name") or name}
    if description := text_of(body, "description"):
        values["description"] = description
    if body.get("disabled") is True or body.get("enabled") is False:
        values["status"] = "inactive"
    arguments = _arguments(body)
    bridged = _bridged_url(text_of(body, "command"), arguments)
    notes = [f"{member} is not taken over." for member in sorted(str(key) for key in set(body) - _KNOWN)]
    if bridged:
        notes.append("It starts mcp-remote; the address behind it is used directly.")
        more = _remote(
            bridged, kind="sse-only" if "sse-only" in arguments else "", headers=_header_arguments(arguments)
        )
    elif url := text_of(body, "url", "serverUrl", "httpUrl"):
        more = _remote(url, kind=text_of(body, "type", "transport"), headers=texts_of(body, "headers"))
        more[0].update(_oauth_client(body, notes))
    else:
        more = _local(body, arguments=arguments)
    values.update(more[0])
    return ServerEntry(name, slug_for(name), values, (*notes, *more[1]))


def _remote(url: str, *, kind: str, headers: Mapping[str, str]) -> tuple[dict[str, object], list[str]]:
    if placeholder := find_placeholder(url):
        raise EntryError(f"its address holds {placeholder}; placeholders are not expanded here")
    transport = "sse" if kind == "sse-only" else _transport(kind)
    notes = []
    if not transport:
        transport = "sse" if urlsplit(url).path.rstrip("/").endswith("/sse") else "streamable_http"
    if transport == "stdio":
        raise EntryError("it has an address, but says that it is a local program")
    if urlsplit(url).query:
        notes.append("Its address has a query: if that holds a key, it is visible wherever the address is.")
    found = credential_of_headers(headers)
    return {"url": url, "transport": transport, **found.values}, [*notes, *found.notes]


def _local(body: Mapping[str, object], *, arguments: list[str]) -> tuple[dict[str, object], list[str]]:
    command = text_of(body, "command")
    if not command:
        raise EntryError("it has neither an address (url) nor a command")
    if _transport(text_of(body, "type", "transport")) not in {"", "stdio"}:
        raise EntryError("it has a command, but says that it is reached by HTTP")
    notes = []
    if any(find_placeholder(argument) for argument in arguments):
        notes.append("An argument holds a placeholder; it is kept as it is and not expanded.")
    found = environment_of(texts_of(body, "env"))
    values = {"transport": "stdio", "auth_type": "none", "command": command, "arguments": arguments, **found.values}
    return values, [*notes, *found.notes]


def _transport(kind: str) -> str:
    plain = kind.lower().replace("-", "").replace("_", "")
    if plain and plain not in _TRANSPORTS:
        raise EntryError(f"its type {kind[:40]!r} is unknown")
    return _TRANSPORTS.get(plain, "")


def _arguments(body: Mapping[str, object]) -> list[str]:
    value = body.get("args")
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str | int | float) for item in value):
        raise EntryError("args is not a list of texts")
    return [str(item) for item in value]


def _bridged_url(command: str, arguments: Sequence[str]) -> str:
    """Return the address that `npx mcp-remote <address>` would go to, or `""` for any other program."""
    names = [command.replace("\\", "/").rpartition("/")[2], *arguments]
    place = next((index for index, name in enumerate(names) if name.partition("@")[0] == "mcp-remote"), None)
    if place is None:
        return ""
    return next((name for name in names[place + 1 :] if name.startswith(("http://", "https://"))), "")


def _header_arguments(arguments: Sequence[str]) -> dict[str, str]:
    pairs = [after for before, after in zip(arguments, arguments[1:], strict=False) if before == "--header"]
    split = [pair.partition(":") for pair in pairs]
    return {name.strip(): value.strip() for name, _, value in split if name.strip()}


def _oauth_client(body: Mapping[str, object], notes: list[str]) -> dict[str, object]:
    """Read the client that Cursor (`auth`) and others (`oauth`) let a person enter."""
    member = body.get("auth") or body.get("oauth")
    if not isinstance(member, Mapping):
        return {}
    values: dict[str, object] = {"auth_type": "oauth"}
    if client_id := text_of(member, "CLIENT_ID", "clientId", "client_id"):
        values["client_id"] = client_id
    secret = text_of(member, "CLIENT_SECRET", "clientSecret", "client_secret")
    if secret and find_placeholder(secret):
        notes.append(f"The client secret is {find_placeholder(secret)}, which is not expanded here: enter its value.")
    elif secret:
        values["client_secret"] = secret
    scopes = member.get("scopes")
    if isinstance(scopes, list) and all(isinstance(scope, str) for scope in scopes):
        values["scopes"] = " ".join(scopes)
    return values
