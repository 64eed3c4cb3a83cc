"""Typed readers of the environment. Each failure is one sentence that names the variable and never shows its value."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from oauthflow.protocol.errors import FlowError
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.urls import parse_http_url

_WORDS: Final = {
    "true": True, "yes": True, "on": True, "1": True,
    "false": False, "no": False, "off": False, "0": False, "": False,
}  # fmt: skip
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
_POSTGRES_OPTIONS: Final = frozenset(
    {"sslmode", "sslrootcert", "sslcert", "sslkey", "connect_timeout", "application_name"}
)
# Of a server that vanished without a word the kernel would tell us after a quarter of an hour; `tcp_user_timeout` is in
# milliseconds, the others in seconds.
_NOTICED_SOON: Final = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
# Who stands still inside a transaction (SIGSTOP, a laptop's lid) holds locks, above all on the end of the audit record.
# PostgreSQL then ends its session. None of our transactions waits for anything but the database. R4.
FROZEN_SECONDS: Final = 20
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{32,200}")
_LEAST_DIFFERENT_CHARACTERS: Final = 12
# What the broker's client and the cache's both understand; anything else ends in the errors of one of them.
_REDIS_OPTIONS: Final = {
    "redis": frozenset[str](),
    "rediss": frozenset({"ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"}),
    "unix": frozenset({"db"}),
}
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})

_ASSERTION_SOURCE = re.compile(r"(file:/[^\0\r\n]+|env:[A-Za-z_][A-Za-z0-9_]*)=(https?://[^?]+)")


class Environment:
    """Reads settings from one mapping, normally `os.environ`."""

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        self._variables = os.environ if variables is None else variables

    def text(self, name: str, *, default: str = "") -> str:
        """Return the trimmed value, or the content of the file that NAME_FILE names; empty counts as unset."""
        return self._variables.get(name, "").strip() or self._file(f"{name}_FILE") or default

    def _file(self, name: str) -> str:
        path = self._variables.get(name, "").strip()
        if not path:
            return ""
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise ImproperlyConfigured(f"{name} names a file that cannot be read.") from error

    def bearer_token(self, name: str) -> Secret:
        """Return a token that others send us; one that could be guessed or does not fit a header stops the start."""
        token = self.text(name)
        if token and (not _TOKEN.fullmatch(token) or len(set(token)) < _LEAST_DIFFERENT_CHARACTERS):
            raise ImproperlyConfigured(f"{name} must be 32 or more random letters, digits, '-' or '_'.")
        return Secret(token)

    def port(self, name: str) -> int:
        """Return a port, or 0 where none is given."""
        text = self.text(name, default="0")
        if not (text.isdecimal() and int(text) < 65536):
            raise ImproperlyConfigured(f"{name} must be a port.")
        return int(text)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return true or false; a word that is neither stops the start."""
        word = self.text(name).lower()
        if word not in _WORDS:
            raise ImproperlyConfigured(f"{name} must be true or false.")
        return _WORDS[word] if word else default

    def choice(self, name: str, words: tuple[str, ...]) -> str:
        """Return one of these words, the first where none is given; any other stops the start."""
        word = self.text(name, default=words[0]).lower()
        if word not in words:
            raise ImproperlyConfigured(f"{name} must be one of: {', '.join(words)}.")
        return word

    def words(self, name: str) -> tuple[str, ...]:
        """Return the parts of a comma-separated list."""
        return tuple(part.strip() for part in self.text(name).split(",") if part.strip())

    def assertion_sources(self, name: str) -> tuple[tuple[str, str], ...]:
        """Return places, `file:/path` or `env:NAME`, each with the address below which its assertion may be sent."""
        matches = [_ASSERTION_SOURCE.fullmatch(word) for word in self.words(name)]
        pairs = tuple((match[1], match[2]) for match in matches if match)
        try:
            for _, receiver in pairs:
                parse_http_url(receiver)
        except FlowError as error:
            raise ImproperlyConfigured(f"{name} has an address that cannot be used: {error.detail}.") from error
        if len(pairs) < len(matches):
            raise ImproperlyConfigured(f"{name} must list pairs like file:/path=https://login.example.com.")
        return pairs

    def folder(self, name: str, *, default: Path) -> Path:
        """Return an absolute path."""
        return Path(self.text(name, default=str(default))).expanduser().resolve()

    def origin(self, name: str, *, default: str) -> str:
        """Return an http or https address without path or trailing slash."""
        text = self.text(name, default=default)
        try:
            return canonical_origin(text)
        except ValueError as error:
            raise ImproperlyConfigured(f"{name} must be like https://mcp.example.com: {error}.") from error

    def origins(self, name: str) -> tuple[str, ...]:
        """Return a list of exact origins; `*` and `null` stop the start."""
        try:
            return tuple(canonical_origin(part) for part in self.words(name))
        except ValueError as error:
            raise ImproperlyConfigured(
                f"{name} must list exact origins like https://app.example.com: {error}."
            ) from error

    def days(self, name: str) -> int:
        """Return a whole number of days, or 0 where none is given."""
        text = self.text(name, default="0")
        if not (text.isascii() and text.isdecimal() and int(text) < 100_000):
            raise ImproperlyConfigured(f"{name} must be a whole number of days.")
        return int(text)

    def count(self, name: str, *, default: int) -> int:
        """Return a whole number."""
        text = self.text(name, default=str(default))
        if not (text.isascii() and text.isdecimal() and int(text) < 1_000_000):
            raise ImproperlyConfigured(f"{name} must be a whole number.")
        return int(text)

    def https_url(self, name: str, *, default: str) -> str:
        """Return an address with a path; http is accepted in the default only."""
        text = self.text(name)
        parts = parts_of(name, text)
        if text and (parts.scheme != "https" or not parts.hostname or parts.path in {"", "/"} or parts.fragment):
            raise ImproperlyConfigured(f"{name} must be an https address with a path.")
        return text or default

    def networks(self, name: str) -> tuple[str, ...]:
        """Return a list of addresses or CIDR networks."""
        for part in self.words(name):
            if not _is_network(part):
                raise ImproperlyConfigured(f"{name} must list IP addresses or networks like 10.0.0.0/8.")
        return self.words(name)

    def egress_allow(self, name: str) -> tuple[str, ...]:
        """Return hosts, `host:port` pairs and CIDR networks that may be reached although private or plain http."""
        for part in self.words(name):
            if not (_is_network(part) or _is_host_and_port(part)):
                raise ImproperlyConfigured(f"{name} must list hosts, host:port pairs or networks like 10.1.0.0/16.")
        return self.words(name)

    def database(self, name: str, *, sqlite_file: Path) -> dict[str, Any]:
        """Return Django's database dictionary for `sqlite:///path` or `postgresql://user:password@host:port/name`."""
        text = self.text(name)
        if not text:
            return sqlite_database(sqlite_file)
        scheme = text.partition(":")[0].lower()
        if scheme == "sqlite":
            path = unquote(parts_of(name, text).path).removeprefix("/")
            return sqlite_database(Path(path or str(sqlite_file)).resolve())
        if scheme in {"postgresql", "postgres"}:
            return _postgresql_database(name, text)
        raise ImproperlyConfigured(f"{name} must begin with sqlite:/// or postgresql://.")

    def redis_url(self, name: str) -> str:
        """Return a redis address or an empty text."""
        text = self.text(name)
        parts = parts_of(name, text)
        if text and parts.scheme not in _REDIS_OPTIONS:
            raise ImproperlyConfigured(f"{name} must begin with redis://, rediss:// or unix://.")
        if text and not _is_redis(parts):
            raise ImproperlyConfigured(
                f"{name} must be like redis://:password@host:6379/0 or unix:///run/redis.sock, with known options."
            )
        return text


def parts_of(name: str, text: str) -> SplitResult:
    """Take an address apart; one whose host or port cannot be read stops the start."""
    try:
        return _split(text)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} cannot be used: {error}.") from None


def canonical_origin(text: str) -> str:
    """Return scheme, host and non-default port in lower case.

    Raises:
        ValueError: Anything else is in there. The message does not repeat the text.
    """
    parts = _split(text.removesuffix("/"))
    if parts.scheme not in {"http", "https"}:
        raise ValueError("it must begin with https:// or http://")
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        raise ValueError("it must hold nothing but scheme, host and port")
    host = (parts.netloc.rpartition(":")[0] if parts.port is not None else parts.netloc).lower()
    if not _HOST.fullmatch(host):
        raise ValueError("the host is not readable")
    default = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port not in {None, default} else "")


def is_loopback(host: str) -> bool:
    """Say whether a host name or address means this machine."""
    bare = host.strip("[]").lower()
    return bare in _LOOPBACK_NAMES or bare.endswith(".localhost") or (_is_network(bare) and _first(bare).is_loopback)


def sqlite_database(path: Path) -> dict[str, Any]:
    """Return a database dictionary that stands several writing processes: WAL, and the write lock from the start."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "ATOMIC_REQUESTS": False,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;",
        },
    }


def _postgresql_database(name: str, text: str) -> dict[str, Any]:
    parts = parts_of(name, text)
    query = dict(parse_qsl(parts.query))
    unknown = query.keys() - _POSTGRES_OPTIONS - {"host", "port", "user", "password"}
    database = unquote(parts.path.removeprefix("/"))
    if not database or "/" in database or unknown:
        raise ImproperlyConfigured(
            f"{name} must be like postgresql://user:password@host:5432/name, with known options."
        )
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": database,
        "USER": unquote(parts.username or "") or query.get("user", ""),
        "PASSWORD": unquote(parts.password or "") or query.get("password", ""),
        "HOST": unquote(parts.hostname or "") or query.get("host", ""),
        "PORT": str(parts.port or query.get("port", "")),
        "ATOMIC_REQUESTS": False,
        # Each request under ASGI has a thread of its own, so persistent connections would leak: the pool instead.
        "CONN_MAX_AGE": 0,
        # After a restart of the server the pool is full of connections that it has closed. F07.
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            # What a crowd needed is given back soon: each connection that a restart has closed costs somebody a wait.
            # The pool doubles its pauses after failures; given up soon, it begins anew with the next request. F07.
            "pool": {"min_size": 2, "max_size": 8, "timeout": 5, "max_idle": 30, "reconnect_timeout": 3},
            **_NOTICED_SOON,
            "options": f"-c idle_in_transaction_session_timeout={FROZEN_SECONDS}s",
            **{option: value for option, value in query.items() if option in _POSTGRES_OPTIONS},
        },
    }


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        if parts.port != 0:  # raises where it is no number of a port
            return parts
    except ValueError:  # whose message may repeat the text
        pass
    raise ValueError("the host or the port is not readable")


def _is_redis(parts: SplitResult) -> bool:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.fragment or not options.keys() <= _REDIS_OPTIONS[parts.scheme]:
        return False
    place = parts.path.removeprefix("/")
    if parts.scheme == "unix":
        return bool(place) and not parts.hostname and options.get("db", "0").isdecimal()
    return not place or place.isdecimal()


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return False
    return True


def _first(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_network(text, strict=False).network_address


def _is_host_and_port(text: str) -> bool:
    host, separator, port = text.rpartition(":")
    if not separator or text.endswith("]"):
        return bool(_HOST.fullmatch(text))
    return bool(_HOST.fullmatch(host)) and port.isdecimal() and 0 < int(port) < 65536
