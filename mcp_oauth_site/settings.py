"""Django settings. What a deployment changes is read from the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from .broker import broker_settings
from .caches import redis_cache
from .env import Environment
from .keys import load_keys, prepare_data_dir
from .logs import logging_config
from .mail_settings import mail_settings
from .observability.span_settings import spans_endpoint
from .security import content_security_policy, cookie_settings, transport_settings
from .sign_in.configuration import sign_in_settings

environment = Environment()

# ---- What this site is
DEBUG = environment.flag("DEBUG")
PUBLIC_URL = environment.origin("PUBLIC_URL", default="http://localhost:8000")
HTTPS = PUBLIC_URL.startswith("https://")
PUBLIC_HOST = PUBLIC_URL.partition("://")[2]
if DEBUG and HTTPS:
    raise ImproperlyConfigured("DEBUG must not be on together with an https PUBLIC_URL.")

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = environment.folder("DATA_DIR", default=BASE_DIR / "var")
_SQLITE_FILE = "site.sqlite3"
_BROKER_FILE = "broker.sqlite3"

# ---- Keys. The first one encrypts or signs, all of them decrypt or verify
_keys = load_keys(environment, data_dir=DATA_DIR, debug=DEBUG)
SECRET_KEY = _keys.secret_key
FIELD_ENCRYPTION_KEY = _keys.field_encryption_key
SIGNING_KEYS = _keys.signing_keys
AUDIT_KEYS = _keys.audit_keys

# ---- The audit record: where its end is noted outside the database, and after how many days records go (0: never)
AUDIT_HEAD_FILE: Path | None = DATA_DIR / "audit-head.log"
AUDIT_RETENTION_DAYS = environment.days("AUDIT_RETENTION_DAYS")

# ---- Who may reach us, and whom we may reach
ALLOWED_HOSTS = list(environment.words("ALLOWED_HOSTS") or (PUBLIC_HOST.rpartition(":")[0] or PUBLIC_HOST,))
TRUSTED_PROXIES = environment.networks("TRUSTED_PROXIES")
CORS_ALLOWED_ORIGINS = environment.origins("CORS_ALLOWED_ORIGINS")
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
EGRESS_ALLOW = environment.egress_allow("EGRESS_ALLOW")
STDIO_SERVERS_ALLOWED = environment.flag("STDIO_SERVERS_ALLOWED")
ASSERTION_SOURCES = environment.assertion_sources("ASSERTION_SOURCES")
CLIENT_METADATA_URL = environment.https_url("CLIENT_METADATA_URL", default=f"{PUBLIC_URL}/oauth/client-metadata.json")
MCP_OAUTH: dict[str, Any] = {
    "require_iss": environment.flag("OAUTH_REQUIRE_ISS"),
    "revoke_deactivated": environment.flag("OAUTH_REVOKE_DEACTIVATED", default=True),
}
AUTHSERVER: dict[str, Any] = {
    "registration": environment.choice("CLIENT_REGISTRATION", ("open", "token", "off")),
    "document_hosts": environment.words("CLIENT_DOCUMENT_HOSTS"),
    "refusals_a_minute": environment.count("CLIENT_REFUSALS_A_MINUTE", default=600),
}
GATEWAY: dict[str, Any] = {
    "streams_of_a_user": environment.count("GATEWAY_STREAMS_OF_A_USER", default=10),
    "streams": environment.count("GATEWAY_STREAMS", default=1000),
}

# ---- Who may watch us, and where we tell
METRICS_TOKEN = environment.bearer_token("METRICS_TOKEN")
METRICS_PORT = environment.port("METRICS_PORT")
OTEL_EXPORTER_OTLP_ENDPOINT = spans_endpoint(environment)

# ---- E-mail (mail_settings.py)
globals().update(mail_settings(environment.text("EMAIL_URL"), public_host=PUBLIC_HOST))

# ---- Database, broker, cache
DATABASE_URL = environment.text("DATABASE_URL")
REDIS_URL = environment.redis_url("REDIS_URL")
DATABASES = {"default": environment.database("DATABASE_URL", sqlite_file=DATA_DIR / _SQLITE_FILE)}
prepare_data_dir(
    DATA_DIR,
    files=(*(() if DATABASE_URL else (_SQLITE_FILE,)), *(() if REDIS_URL else (_BROKER_FILE,))),
)
CELERY: dict[str, Any] = broker_settings(REDIS_URL, sqlite_file=DATA_DIR / _BROKER_FILE)
# Three ticks were lost: then workers do by themselves what cannot wait (stand_in.py), and /readyz is degraded.
BEAT_SILENT_SECONDS = 60.0
CACHES: dict[str, dict[str, Any]] = {
    "default": redis_cache(REDIS_URL)
    if REDIS_URL
    else {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "site_cache"}
}

# ---- Django
INSTALLED_APPS = [
    "mcp_oauth_site",
    "gateway",  # without this line clients reach MCP servers only by themselves
    "authserver",  # without this line the site is no authorization server
    "oauthflow",
    "connections",
    "audit",
    "mcp_oauth_site.sign_in.administration.AdministrationConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.socialaccount.providers.github",
    "allauth.mfa",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "graphene_django",
    "csp",
    "encrypted_model_fields",
]
MIDDLEWARE = [
    "mcp_oauth_site.middleware.request_log",
    "django.middleware.security.SecurityMiddleware",
    "mcp_oauth_site.middleware.cross_origin",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "mcp_oauth_site.middleware.text_only",
]
ROOT_URLCONF = "mcp_oauth_site.urls"
ASGI_APPLICATION = "mcp_oauth_site.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
APPEND_SLASH = True
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    # Hashed names, so that browsers may keep the files for ever; with DEBUG the plain names are used.
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 500

# ---- People
LOGIN_URL = "/accounts/login/"
LOGIN_REDIRECT_URL = "/connections/"
LOGOUT_REDIRECT_URL = "/accounts/login/"
PASSWORD_RESET_TIMEOUT = 24 * 60 * 60
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

# ---- Signing in (sign_in/): accounts are made by administrators or by a provider that may bring newcomers
ADMIN_SECOND_FACTOR = environment.flag("ADMIN_SECOND_FACTOR", default=HTTPS)
globals().update(sign_in_settings(https=HTTPS))

# ---- The browser: what it may load, keep and send back (security.py)
CONTENT_SECURITY_POLICY = content_security_policy()
globals().update(cookie_settings(https=HTTPS))
globals().update(transport_settings(https=HTTPS))

# ---- Faces
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "connections.authentication.ApiTokenAuthentication",
        *(["authserver.authentication.AccessTokenAuthentication"] if "authserver" in INSTALLED_APPS else []),
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["connections.json_body.JsonBodyParser"],
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "oauthflow.error_responses.rest_exception_handler",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "MCP OAuth Site",
    "DESCRIPTION": "OAuth connections to MCP servers: configure, authorize, use, revoke.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/v1/",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {
        "DeliveryState": "oauthflow.models.WebhookDelivery.Status",
        "ConnectionState": "connections.models.Connection.Status",
        "ServerState": "connections.models.McpServer.Status",
        "EventName": "oauthflow.models.EventType",
        "AuthorizationState": "oauthflow.models.AuthorizationRequest.Status",
    },
}
GRAPHENE: dict[str, Any] = {"MIDDLEWARE": ()}

CSRF_FAILURE_VIEW = "mcp_oauth_site.pages.csrf_failure"

LOGGING = logging_config()
