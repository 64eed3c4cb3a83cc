"""Signing in and out."""

from __future__ import annotations

import hmac
import sqlite3

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from .configuration import USERS, Configuration
from .database import hashed, new_secret, seconds_now
from .pages import Markup, fragment, page
from .parameters import own_form, with_query

_COOKIE = "demonstration_login"


def signed_in_subject(request: Request) -> str | None:
    """Return who is signed in in this browser."""
    database: sqlite3.Connection = request.app.state.database
    row = database.execute(
        "SELECT subject FROM logins WHERE hash = ? AND expires_at > ?",
        (hashed(request.cookies.get(_COOKIE, "")), seconds_now()),
    ).fetchone()
    return row and str(row["subject"])


def to_login(request: Request, *, pending: str = "") -> Response:
    """Send the browser to the login page, to come back to the request `pending`."""
    configuration: Configuration = request.app.state.configuration
    return RedirectResponse(with_query(f"{configuration.issuer}/login", {"request": pending}), status_code=303)


async def show_login(request: Request) -> Response:
    """Show the login page."""
    return page(request, "login", title="Sign in", alert=Markup(), pending=request.query_params.get("request", ""))


async def sign_in(request: Request) -> Response:
    """Check user name and password; go on to the consent page, or to the person's grants."""
    configuration: Configuration = request.app.state.configuration
    form = await own_form(request)
    username, pending = form.get("username", ""), form.get("request", "")
    password = USERS.get(username)
    if password is None or not hmac.compare_digest(password.encode(), form.get("password", "").encode()):
        alert = fragment("message", message="User name or password is wrong.")
        return page(request, "login", title="Sign in", status=401, alert=alert, pending=pending)
    target = with_query(f"{configuration.issuer}/consent", {"request": pending})
    response = RedirectResponse(target if pending else f"{configuration.issuer}/grants", status_code=303)
    # A new cookie at each login: one set beforehand by somebody else is worth nothing afterwards.
    cookie = new_secret()
    with request.app.state.database as database:
        expires_at = seconds_now() + configuration.login_seconds
        database.execute("INSERT INTO logins VALUES (?, ?, ?)", (hashed(cookie), username, expires_at))
    response.set_cookie(
        _COOKIE,
        cookie,
        max_age=configuration.login_seconds,
        path=configuration.base_path or "/",
        secure=configuration.issuer.startswith("https:"),
        httponly=True,
        samesite="lax",
    )
    return response


async def sign_out(request: Request) -> Response:
    """End the login of this browser."""
    configuration: Configuration = request.app.state.configuration
    await own_form(request)
    with request.app.state.database as database:
        database.execute("DELETE FROM logins WHERE hash = ?", (hashed(request.cookies.get(_COOKIE, "")),))
    response = to_login(request)
    response.delete_cookie(_COOKIE, path=configuration.base_path or "/")
    return response
