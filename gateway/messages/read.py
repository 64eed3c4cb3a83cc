"""Read a POST by the rules of its era. Whatever the upstream can answer better is left to the upstream.

The era is a property of the request: modern with a protocol version that has no `initialize`, legacy with an older one
or none. Header and body have to agree on the version, and nothing but that, the JSON and the envelope is checked of a
legacy request.

Spec: MCP 2026-07-28, transports and versioning; JSON-RPC 2.0 §4 to §6. G-07 to G-10, G-21; A6 G10.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, Literal

from .message import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    UNSUPPORTED_VERSION,
    Era,
    Id,
    Message,
    RefusedMessageError,
)
from .mirrored_headers import NAMED_BY, Headers, disagreement, value_of
from .strict_json import read_json

LEGACY_VERSIONS: Final = frozenset({"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"})
MODERN_VERSIONS: Final = ("2026-07-28",)
_MAY_BATCH: Final = ("", "2025-03-26")
_LARGEST_BATCH: Final = 100
_VERSION: Final = "io.modelcontextprotocol/protocolVersion"
_CAPABILITIES: Final = "io.modelcontextprotocol/clientCapabilities"
_ENVELOPE: Final = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
_ANY_PARAMS: Final = frozenset({"arguments", "_meta"})
_PARAMS: Final = {method: _ANY_PARAMS | {parameter} for method, parameter in NAMED_BY.items()}
_LARGEST_ID: Final = 2**63 - 1
_JSON: Final = re.compile(rb"application/json[ \t]*(;.*)?", re.IGNORECASE)
_OTHER_CHARSET: Final = re.compile(rb"charset=(?!\"?utf-8\"?[ \t]*(;|$))", re.IGNORECASE)


def read_message(body: bytes, *, headers: Headers) -> Message:
    """Read and check what a client POSTs.

    Args:
        body: Complete, and no longer than what is read of a POST.
        headers: Of the POST.

    Raises:
        RefusedMessageError: It is not to be forwarded; the error says how to answer. 415 for what is announced as
            anything but JSON in UTF-8, or is packed.
    """
    headers.judged(_require_plain_json)
    document, written = read_json(body)
    version = headers.judged(_version_in)
    if isinstance(document, list):
        return _batch(document, body=written, version=version)
    message = _message(document, body=written, version=version)
    if message.era is Era.MODERN:
        _check_modern(message, headers=headers)
    return message


def check_headers_without_body(headers: Headers) -> Era:
    """Check a GET or DELETE.

    Returns:
        The legacy era: the modern one has POST only.

    Raises:
        RefusedMessageError: 405 for a version that is not legacy.
    """
    version = headers.judged(_version_in)
    if version and version not in LEGACY_VERSIONS:
        raise RefusedMessageError(INVALID_REQUEST, "This protocol version has POST only.", status=405)
    return Era.LEGACY


def _require_plain_json(headers: Headers) -> None:
    kinds = headers.get_all(b"content-type")
    if len(kinds) != 1 or not _is_plain_json(kinds[0]) or headers.get_all(b"content-encoding"):
        raise RefusedMessageError(INVALID_REQUEST, "Send application/json in UTF-8, not compressed.", status=415)


@lru_cache(maxsize=100)
def _is_plain_json(kind: bytes) -> bool:
    return _JSON.fullmatch(kind) is not None and _OTHER_CHARSET.search(kind) is None


def _version_in(headers: Headers) -> str:
    try:
        value = value_of(headers, b"mcp-protocol-version")
    except ValueError as error:
        raise RefusedMessageError(HEADER_MISMATCH, f"The header {error}.") from error
    return value.decode("latin-1") if value else ""


def _batch(documents: list[Any], *, body: bytes, version: str) -> Message:
    if version not in _MAY_BATCH:
        raise RefusedMessageError(INVALID_REQUEST, "This protocol version has no batches.")
    if not 0 < len(documents) <= _LARGEST_BATCH:
        raise RefusedMessageError(INVALID_REQUEST, f"A batch holds 1 to {_LARGEST_BATCH} messages.")
    members = tuple(_message(document, body=b"", version=version) for document in documents)
    if any(member.method == "initialize" for member in members):
        raise RefusedMessageError(INVALID_REQUEST, "The method initialize cannot be part of a batch.")
    return Message(body, Era.LEGACY, version, "batch", members=members)


def _message(document: Any, *, body: bytes, version: str) -> Message:
    if not isinstance(document, dict):
        raise RefusedMessageError(INVALID_REQUEST, "The message is not a JSON object.")
    id = _id_of(document)
    kind = _kind_of(document, id=id)
    method, params = document.get("method", ""), document.get("params")
    if not isinstance(method, str) or document.get("jsonrpc") != "2.0":
        raise RefusedMessageError(INVALID_REQUEST, "The message is not JSON-RPC 2.0.", id=id)
    if params is None:
        params = {}
    if not isinstance(params, dict):
        raise RefusedMessageError(INVALID_PARAMS, "The params are not an object.", id=id)
    name = _name_in(params, method=method, id=id)
    era = _era_of(params, version=version, id=id)
    return Message(body, era, version, kind, method, id, name, params)


def _id_of(document: Mapping[str, Any]) -> Id:
    """Return it; None where there is none, or where an error answers nothing in particular."""
    id = document.get("id")
    if isinstance(id, str) or (type(id) is int and abs(id) <= _LARGEST_ID):
        return id
    if "id" in document and not (id is None and "error" in document):
        raise RefusedMessageError(INVALID_REQUEST, "The id is neither a text nor a whole number of 64 bits.")
    return None


def _kind_of(document: Mapping[str, Any], *, id: Id) -> Literal["request", "notification", "response"]:
    _refuse_lookalikes(document, known=_ENVELOPE, id=id)
    kinds = ("method" in document) + ("result" in document) + ("error" in document)
    if kinds != 1 or ("result" in document and id is None):
        message = "The message is not exactly one of request, notification and response."
        raise RefusedMessageError(INVALID_REQUEST, message, id=id)
    if "method" not in document:
        return "response"
    return "request" if "id" in document else "notification"


def _name_in(params: Mapping[str, Any], *, method: str, id: Id) -> str:
    parameter = NAMED_BY.get(method)
    _refuse_lookalikes(params, known=_PARAMS.get(method, _ANY_PARAMS), id=id)
    name = params.get(parameter, "") if parameter else ""
    if not isinstance(name, str):
        raise RefusedMessageError(INVALID_PARAMS, f"The parameter {parameter} is not a text.", id=id)
    return name


def _refuse_lookalikes(found: Mapping[str, Any], *, known: frozenset[str], id: Id) -> None:
    """Refuse names that some parsers take for others, because they do not tell capital letters from small ones."""
    if found.keys() <= known:
        return
    for name in found.keys() - known:
        if name.casefold() in known:
            raise RefusedMessageError(INVALID_REQUEST, "A name differs from a known one in its case only.", id=id)


def _era_of(params: Mapping[str, Any], *, version: str, id: Id) -> Era:
    meta = params.get("_meta")
    if isinstance(meta, dict) and _VERSION in meta and meta[_VERSION] != version:
        message = "The header mcp-protocol-version differs from the protocol version of the body."
        raise RefusedMessageError(HEADER_MISMATCH, message, id=id)
    return Era.LEGACY if not version or version in LEGACY_VERSIONS else Era.MODERN


def _check_modern(message: Message, *, headers: Headers) -> None:
    """In the order in which the SDKs do, so that a client that errs twice is told the same everywhere."""
    if message.kind == "response":
        raise RefusedMessageError(INVALID_REQUEST, "This protocol version has no requests to clients.", id=message.id)
    is_request = message.kind == "request"
    if is_request:
        _check_meta(message)
    problem = disagreement(headers, method=message.method, name=message.name, is_request=is_request)
    if problem:
        raise RefusedMessageError(HEADER_MISMATCH, problem, id=message.id)
    if message.version not in MODERN_VERSIONS:
        data = {"supported": list(MODERN_VERSIONS), "requested": message.version}
        raise RefusedMessageError(UNSUPPORTED_VERSION, "Unsupported protocol version", id=message.id, data=data)


def _check_meta(message: Message) -> None:
    meta = message.params.get("_meta")
    if not isinstance(meta, dict) or _VERSION not in meta or not isinstance(meta.get(_CAPABILITIES), dict):
        text = f"The params need a _meta object with {_VERSION} and {_CAPABILITIES}."
        raise RefusedMessageError(INVALID_PARAMS, text, id=message.id)
