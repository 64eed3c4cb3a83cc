"""Where the keys come from: the environment, or on a laptop (DEBUG) a private file that is made once.

Run `python -m mcp_oauth_site.keys` to print a fresh set for the environment of a production site.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured
from joserfc.jwk import ECKey

from .env import Environment

KEYS_FILE: Final = "keys.json"
_PLACEHOLDERS: Final = (
    "django-insecure", "change", "placeholder", "example", "replace", "your-", "your_", "password", "default",
)  # fmt: skip
_KEY_BYTES: Final = 32
_SECRET_KEY_CHARACTERS: Final = 43


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """One set of keys: sessions and signatures, columns, our tokens and assertions, the audit chain."""

    secret_key: str
    field_encryption_key: list[str]
    signing_keys: list[dict[str, Any]]
    audit_keys: list[str]

    def as_variables(self) -> dict[str, str]:
        """Return them in the form of the environment variables."""
        return {
            "SECRET_KEY": self.secret_key,
            "FIELD_ENCRYPTION_KEY": ",".join(self.field_encryption_key),
            "SIGNING_KEYS": json.dumps(self.signing_keys, separators=(",", ":")),
            "AUDIT_KEYS": ",".join(self.audit_keys),
        }


def load_keys(environment: Environment, *, data_dir: Path, debug: bool) -> Keys:
    """Return the configured keys.

    Raises:
        ImproperlyConfigured: One is missing, unreadable, or (outside DEBUG) weak, a placeholder or used twice.
    """
    kept = _kept_keys(data_dir) if debug else {}

    def value(name: str) -> str:
        found = environment.text(name, default=kept.get(name, ""))
        if not found:
            raise ImproperlyConfigured(
                f"{name} is not set: `python -m mcp_oauth_site.keys` prints a fresh set, or set DEBUG=true on a laptop."
            )
        return found

    keys = Keys(
        secret_key=value("SECRET_KEY"),
        field_encryption_key=_byte_keys("FIELD_ENCRYPTION_KEY", value("FIELD_ENCRYPTION_KEY")),
        signing_keys=_signing_keys(value("SIGNING_KEYS")),
        audit_keys=_byte_keys("AUDIT_KEYS", value("AUDIT_KEYS")),
    )
    if not debug:
        _refuse_weak(keys)
    return keys


def new_keys() -> Keys:
    """Return a fresh random set."""
    signing_key = ECKey.generate_key("P-256", private=True)
    jwk = {str(name): member for name, member in signing_key.as_dict(private=True).items()}
    return Keys(
        secret_key=secrets.token_urlsafe(64),
        field_encryption_key=[_new_byte_key()],
        signing_keys=[{**jwk, "kid": signing_key.thumbprint(), "alg": "ES256", "use": "sig"}],
        audit_keys=[_new_byte_key()],
    )


def prepare_data_dir(data_dir: Path, *, files: tuple[str, ...] = ()) -> None:
    """Make the folder (0700) and empty private files (0600) that are not there yet."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = stat.S_IMODE(data_dir.stat().st_mode)
        for name in files:
            os.close(os.open(data_dir / name, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise ImproperlyConfigured(f"DATA_DIR cannot be used: {error.strerror}.") from error
    if mode & 0o022:
        raise ImproperlyConfigured("DATA_DIR is writable by other users; run chmod 700 on it.")


def _kept_keys(data_dir: Path) -> Mapping[str, str]:
    prepare_data_dir(data_dir)
    path = data_dir / KEYS_FILE
    if not path.exists():
        _write_once(path, new_keys())
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ImproperlyConfigured(f"DATA_DIR holds a {KEYS_FILE} that cannot be read.") from error
    if not isinstance(kept, dict) or not all(isinstance(value, str) for value in kept.values()):
        raise ImproperlyConfigured(f"DATA_DIR holds a {KEYS_FILE} of an unknown form.")
    return kept


def _write_once(path: Path, keys: Keys) -> None:
    """Write a complete file under a name of its own, then give it the real name unless somebody was faster."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".keys-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(keys.as_variables(), file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        os.unlink(temporary)


def _new_byte_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(_KEY_BYTES)).decode("ascii")


def _byte_keys(name: str, text: str) -> list[str]:
    keys = [part.strip() for part in text.split(",") if part.strip()]
    if not keys or any(len(_bytes_of(key)) != _KEY_BYTES for key in keys):
        raise ImproperlyConfigured(f"{name} must be a comma-separated list of 32 random bytes each, in base64url.")
    return [base64.urlsafe_b64encode(_bytes_of(key)).decode("ascii") for key in keys]


def _bytes_of(key: str) -> bytes:
    try:
        return base64.b64decode(key.rstrip("=") + "=" * (-len(key.rstrip("=")) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""


def _signing_keys(text: str) -> list[dict[str, Any]]:
    refusal = ImproperlyConfigured("SIGNING_KEYS must be a JSON list of private EC P-256 keys (JWK).")
    try:
        listed = json.loads(text)
    except ValueError as error:
        raise refusal from error
    keys = [listed] if isinstance(listed, dict) else listed
    if not isinstance(keys, list) or not keys:
        raise refusal
    return [_signing_key(key, refusal) for key in keys]


def _signing_key(jwk: object, refusal: ImproperlyConfigured) -> dict[str, Any]:
    if not isinstance(jwk, dict) or jwk.get("kty") != "EC" or jwk.get("crv") != "P-256" or not jwk.get("d"):
        raise refusal
    try:
        key = ECKey.import_key({name: str(jwk[name]) for name in ("kty", "crv", "x", "y", "d")})
    except (ValueError, TypeError, KeyError) as error:
        raise refusal from error
    return {**jwk, "kid": str(jwk.get("kid") or key.thumbprint()), "alg": "ES256", "use": "sig"}


def _refuse_weak(keys: Keys) -> None:
    if not _is_strong_text(keys.secret_key):
        raise ImproperlyConfigured("SECRET_KEY is weak or a placeholder; it needs 32 random bytes.")
    for name, values in (("FIELD_ENCRYPTION_KEY", keys.field_encryption_key), ("AUDIT_KEYS", keys.audit_keys)):
        if not all(_is_random(_bytes_of(value)) for value in values):
            raise ImproperlyConfigured(f"{name} is weak or a placeholder; it needs 32 random bytes.")
    _refuse_equal(keys)


def _refuse_equal(keys: Keys) -> None:
    seen: dict[bytes, str] = {}
    material = [("SECRET_KEY", keys.secret_key), *(("FIELD_ENCRYPTION_KEY", key) for key in keys.field_encryption_key)]
    material += [("AUDIT_KEYS", key) for key in keys.audit_keys]
    material += [("SIGNING_KEYS", str(key["d"])) for key in keys.signing_keys]
    for name, text in material:
        raw = _bytes_of(text) or text.encode()
        if seen.setdefault(raw, name) != name:
            raise ImproperlyConfigured(f"{name} must not be the same as {seen[raw]}.")


def _is_strong_text(text: str) -> bool:
    lowered = text.lower()
    pieces = {text[index : index + 4] for index in range(len(text) - 3)}
    return (
        len(text) >= _SECRET_KEY_CHARACTERS
        and len(set(text)) >= 10
        and len(pieces) > len(text) / 2
        and not any(word in lowered for word in _PLACEHOLDERS)
    )


def _is_random(raw: bytes) -> bool:
    """32 random bytes hold about 30 different ones, and practically never only printable characters."""
    return len(set(raw)) >= 20 and not all(32 <= byte < 127 for byte in raw)


if __name__ == "__main__":
    for variable, setting in new_keys().as_variables().items():
        print(f"{variable}='{setting}'")
