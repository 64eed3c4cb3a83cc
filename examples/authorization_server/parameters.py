"""Reading query strings and forms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from starlette.requests import Request

from .configuration import Configuration
from .errors import OAuthError, PageError


def single_values(pairs: Iterable[tuple[str, object]]) -> dict[str, str]:
    """Return text parameters by name.

    Raises:
        OAuthError: One came twice, or is a file.

    Spec: RFC 6749 §3.1, §3.2.
    """
    values: dict[str, str] = {}
    for name, value in pairs:
        if name in values or not isinstance(value, str):
            raise OAuthError("invalid_request", f"{name} has to be one text")
        values[name] = value
    return values


async def program_form(request: Request) -> dict[str, str]:
    """Return the form a program posted."""
    async with request.form() as form:
        return single_values(form.multi_items())


async def own_form(request: Request) -> dict[str, str]:
    """Return the form a person sent from one of our own pages.

    Raises:
        PageError: The browser says that another site sent it.
    """
    configuration: Configuration = request.app.state.configuration
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    if site != "same-origin" or request.headers.get("Origin", configuration.origin) != configuration.origin:
        raise PageError("This form came from another site.", status=403)
    try:
        return await program_form(request)
    except OAuthError as error:
        raise PageError(error.description) from error


def with_query(url: str, parameters: Mapping[str, str]) -> str:
    """Add parameters to a URL, keeping the ones it has."""
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True) + list(parameters.items())
    return urlunsplit(parts._replace(query=urlencode(pairs)))
