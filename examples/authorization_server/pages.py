"""Pages from the files in `templates/`. Every value is escaped; `Markup` is what has been."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template

from starlette.requests import Request
from starlette.responses import HTMLResponse

from .configuration import Configuration

_TEMPLATES = Path(__file__).with_name("templates")
_HEADERS = {
    "Cache-Control": "no-store",
    # No form-action: browsers apply it to redirects too, and the consent form's answer redirects to the client.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class Markup(str):
    """HTML that is safe to put into a page."""

    __slots__ = ()


def fragment(name: str, **values: str) -> Markup:
    """Fill one template."""
    safe = {key: value if isinstance(value, Markup) else escape(value) for key, value in values.items()}
    return Markup(Template((_TEMPLATES / f"{name}.html").read_text("utf-8")).substitute(safe))


def page(request: Request, name: str, *, title: str, status: int = 200, **values: str) -> HTMLResponse:
    """Fill a template and put the frame of all pages around it."""
    configuration: Configuration = request.app.state.configuration
    body = fragment(name, base=configuration.base_path, **values)
    document = fragment("layout", base=configuration.base_path, title=title, body=body)
    return HTMLResponse(document, status_code=status, headers=_HEADERS)
