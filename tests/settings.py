"""Settings of the tests: fresh keys and files in a folder of their own, nothing from the developer's environment."""

from __future__ import annotations

import atexit
import importlib
import os
import shutil
import tempfile

_CONTRACT = (
    "ADMIN_SECOND_FACTOR", "ALLOWED_HOSTS", "ASSERTION_SOURCES", "AUDIT_KEYS", "AUDIT_RETENTION_DAYS",
    "CLIENT_DOCUMENT_HOSTS", "CLIENT_METADATA_URL", "CLIENT_REFUSALS_A_MINUTE",
    "CLIENT_REGISTRATION", "CORS_ALLOWED_ORIGINS",
    "DATABASE_URL", "EGRESS_ALLOW", "EMAIL_URL",
    "FIELD_ENCRYPTION_KEY", "GATEWAY_STREAMS", "GATEWAY_STREAMS_OF_A_USER",
    "METRICS_PORT", "METRICS_TOKEN", "OAUTH_REQUIRE_ISS",
    "OAUTH_REVOKE_DEACTIVATED",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "PROMETHEUS_MULTIPROC_DIR", "PUBLIC_URL", "REDIS_URL", "SECRET_KEY", "SIGNING_KEYS", "STDIO_SERVERS_ALLOWED",
    "TRUSTED_PROXIES",
)  # fmt: skip
for _name in _CONTRACT:
    os.environ.pop(_name, None)
_folder = tempfile.mkdtemp(prefix="mcp-oauth-tests-")
atexit.register(shutil.rmtree, _folder, ignore_errors=True)
os.environ |= {"DATA_DIR": _folder, "DEBUG": "true", "DATABASE_URL": os.environ.get("TEST_DATABASE_URL", "")}

_site = importlib.import_module("mcp_oauth_site.settings")
globals().update({name: getattr(_site, name) for name in dir(_site) if name.isupper()})
DATABASES = _site.DATABASES
if not os.environ["DATABASE_URL"]:
    # A file, because tests with several threads or processes need the locks of a real one.
    DATABASES["default"]["TEST"] = {"NAME": f"{_folder}/test.sqlite3"}
AUDIT_HEAD_FILE = None  # what one test notes would accuse the next, which begins a record of its own
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
STORAGES = _site.STORAGES | {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
