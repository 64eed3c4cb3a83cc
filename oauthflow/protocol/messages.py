"""HTTP requests and responses as values, so that one function makes a request and another judges the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .signing_key import SigningKey


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request to be sent by `oauthflow.egress`.

    At most one of `form`, `json` and `content` (sent as it is) is set. Headers and bodies may hold secrets and do not
    print. With a `dpop_key` a fresh proof goes along each time it is sent (RFC 9449).
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    form: Mapping[str, str] | None = field(default=None, repr=False)
    json: object | None = field(default=None, repr=False)
    content: bytes | None = field(default=None, repr=False)
    dpop_key: SigningKey | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """A complete HTTP response; header names are lower case, the body is what was sent after decompression."""

    status: int
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
