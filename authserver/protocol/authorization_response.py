"""What we answer at a redirect URI."""

from __future__ import annotations

from urllib.parse import urlencode

from oauthflow.protocol.secret import Secret

from .authorization_request import Answerable
from .errors import OAuthError


def code_response(answerable: Answerable, *, issuer: str, code: Secret) -> str:
    """Return the address to which the browser takes a code.

    Spec: RFC 6749 §4.1.2; RFC 9207 §2. A-11, A-12.
    """
    return _with(answerable, {"code": code.reveal(), "iss": issuer})


def error_response(answerable: Answerable, *, issuer: str, error: OAuthError) -> str:
    """Return the address to which the browser takes an error that may travel.

    Raises:
        ValueError: It may not; a mistake of the caller.

    Spec: RFC 6749 §4.1.2.1; RFC 9207 §2. A-11, X-09.
    """
    if not error.redirectable:
        raise ValueError("this error is for a page")
    said = {"error": error.error, "error_description": error.description}
    return _with(answerable, {**{name: value for name, value in said.items() if value}, "iss": issuer})


def _with(answerable: Answerable, parameters: dict[str, str]) -> str:
    if answerable.state is not None:
        parameters["state"] = answerable.state
    joint = "&" if "?" in answerable.redirect_uri else "?"
    return f"{answerable.redirect_uri}{joint}{urlencode(parameters)}"
