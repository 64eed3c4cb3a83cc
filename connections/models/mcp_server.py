"""One configured MCP server."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

from oauthflow.protocol.errors import FlowError
from oauthflow.protocol.grant_types import GrantType
from oauthflow.protocol.registration import RegistrationMethod
from oauthflow.protocol.scopes import format_scope, parse_scope
from oauthflow.protocol.urls import parse_http_url

from ..grant_rules import grant_problems
from ..profiles import PROFILE_CHOICES
from ..sealing import SealedTextField

_URL_FIELDS = (
    "url",
    "issuer",
    "authorization_endpoint",
    "token_endpoint",
    "revocation_endpoint",
    "documentation_url",
)


class McpServerQuerySet(models.QuerySet["McpServer"]):
    """Reads of configured servers."""

    def usable_by(self, user: AbstractBaseUser | AnonymousUser) -> McpServerQuerySet:
        """Servers that are in use and open to this user: named, in a named group, or open to everybody."""
        if not user.is_authenticated or not user.is_active:
            return self.none()
        everybody = Q(users__isnull=True, groups__isnull=True)
        named = Q(users=user) | Q(groups__user=user)
        return self.exclude(status=McpServer.Status.INACTIVE).filter(everybody | named).distinct()


def _validate_http_url(value: str) -> None:
    try:
        parse_http_url(value)
    except FlowError as error:
        # The address itself is not repeated: people paste passwords in them.
        raise ValidationError(f"This is not a usable address: {error.detail or error.message}") from error


def _validate_scopes(value: str) -> None:
    try:
        parse_scope(value)
    except FlowError as error:
        raise ValidationError(f"These scopes are not valid: {error.detail or error.message}") from error


class McpServer(models.Model):
    """One MCP server as an administrator configured it. Saving it never touches the network."""

    class Transport(models.TextChoices):
        STREAMABLE_HTTP = "streamable_http", "Streamable HTTP"
        SSE = "sse", "HTTP with Server-Sent Events (old)"
        STDIO = "stdio", "Local program (stdio)"

    class AuthType(models.TextChoices):
        NONE = "none", "None"
        BEARER = "bearer", "Fixed bearer token"
        HEADER = "header", "Fixed header"
        OAUTH = "oauth", "OAuth"

    class AuthMethod(models.TextChoices):
        AUTO = "auto", "Automatic"
        BASIC = "client_secret_basic", "client_secret_basic"
        POST = "client_secret_post", "client_secret_post"
        PRIVATE_KEY_JWT = "private_key_jwt", "private_key_jwt (our own key)"
        NONE = "none", "none (public client)"

    class Registration(models.TextChoices):
        AUTO = "auto", "Automatic"
        PRE_REGISTERED = RegistrationMethod.PRE_REGISTERED.value, "Pre-registered client"
        METADATA_DOCUMENT = RegistrationMethod.METADATA_DOCUMENT.value, "Client ID Metadata Document"
        DYNAMIC = RegistrationMethod.DYNAMIC.value, "Dynamic client registration"

    class Grant(models.TextChoices):
        AUTHORIZATION_CODE = GrantType.AUTHORIZATION_CODE.value, "A person who signs in"
        CLIENT_CREDENTIALS = GrantType.CLIENT_CREDENTIALS.value, "This site by itself"
        TOKEN_EXCHANGE = GrantType.TOKEN_EXCHANGE.value, "The company's sign-in"
        JWT_BEARER = GrantType.JWT_BEARER.value, "Workload identity"

    class DpopBinding(models.TextChoices):
        AUTO = "auto", "Where the server asks for it"
        ALWAYS = "always", "Always"
        NEVER = "never", "Never"

    class ResourceMode(models.TextChoices):
        AUTO = "auto", "Automatic"
        SEND = "send", "Always send"
        OMIT = "omit", "Never send"
        CUSTOM = "custom", "Send the value below"

    class ConnectionPolicy(models.TextChoices):
        PERSONAL = "personal", "Everybody connects with their own account"
        SHARED = "shared", "One shared connection"
        SHARED_WITH_PERSONAL = "shared_with_personal", "Shared, unless somebody connects their own"

    class Status(models.TextChoices):
        ACTIVE = "active", "Active"
        INACTIVE = "inactive", "Inactive"
        DEPRECATED = "deprecated", "Deprecated"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=255)
    slug = models.SlugField(max_length=80, unique=True)
    description = models.TextField(blank=True)
    url = models.CharField("URL", max_length=1000, blank=True, help_text="Address of the MCP endpoint.")
    transport = models.CharField(max_length=20, choices=Transport.choices, default=Transport.STREAMABLE_HTTP)
    auth_type = models.CharField("authentication", max_length=10, choices=AuthType.choices, default=AuthType.OAUTH)
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.ACTIVE)
    documentation_url = models.CharField("documentation URL", max_length=1000, blank=True)

    issuer = models.CharField(
        "issuer URL", max_length=1000, blank=True, help_text="Empty: discovered from the server itself."
    )
    authorization_endpoint = models.CharField(
        max_length=1000, blank=True, help_text="Only for services that publish no metadata; needs the token endpoint."
    )
    token_endpoint = models.CharField(max_length=1000, blank=True)
    revocation_endpoint = models.CharField(max_length=1000, blank=True)
    accepted_issuer = models.CharField(
        max_length=1000, blank=True, help_text="A second spelling of the issuer that its own metadata uses."
    )
    assume_pkce = models.BooleanField(
        "assume PKCE",
        default=False,
        help_text="Dangerous: go on although the metadata does not promise PKCE with S256. Superusers only.",
    )
    scopes = models.CharField(
        max_length=1000,
        blank=True,
        validators=[_validate_scopes],
        help_text="Space separated. Empty: as the server asks.",
    )
    profile = models.CharField(
        "provider profile", max_length=40, blank=True, choices=PROFILE_CHOICES, help_text="Known quirks of a provider."
    )
    metadata_ttl_minutes = models.PositiveIntegerField(
        "metadata cache TTL (minutes)",
        default=1440,
        validators=[MinValueValidator(5), MaxValueValidator(525_600)],
    )
    resource_mode = models.CharField(
        "resource parameter", max_length=8, choices=ResourceMode.choices, default=ResourceMode.AUTO
    )
    resource = models.CharField("resource value", max_length=1000, blank=True)

    registration = models.CharField(max_length=20, choices=Registration.choices, default=Registration.AUTO)
    client_id = models.CharField("fallback client id", max_length=500, blank=True)
    client_secret_sealed = SealedTextField()
    client_issuer = models.CharField(
        max_length=1000, blank=True, editable=False, help_text="The issuer that the fallback client belongs to."
    )
    token_endpoint_auth_method = models.CharField(
        "client authentication", max_length=24, choices=AuthMethod.choices, default=AuthMethod.AUTO
    )
    client_private_key_sealed = SealedTextField(db_default="")

    grant_type = models.CharField(
        "access comes from",
        max_length=24,
        choices=Grant.choices,
        default=Grant.AUTHORIZATION_CODE,
        db_default=GrantType.AUTHORIZATION_CODE.value,
    )
    identity_provider: models.ForeignKey[McpServer | None, McpServer | None] = models.ForeignKey(
        "self",
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="servers_vouched_for",
        help_text="For enterprise-managed access: the entry of the company's sign-in service.",
    )
    assertion_source = models.CharField(
        max_length=500,
        blank=True,
        default="",
        db_default="",
        help_text="For workload identity: file:/path or env:NAME, as the operator allows it (ASSERTION_SOURCES). "
        "Empty: the assertion entered below.",
    )
    assertion_sealed = SealedTextField(db_default="")
    dpop_bound_access_tokens = models.CharField(
        "bind tokens to a key (DPoP)",
        max_length=8,
        choices=DpopBinding.choices,
        default=DpopBinding.AUTO,
        db_default="auto",
    )

    header_name = models.CharField(
        max_length=100,
        blank=True,
        default="X-API-Key",
        validators=[RegexValidator(r"\A[!#$%&'*+.^_`|~0-9A-Za-z-]*\Z", "This is not a header name.")],
        help_text="For a fixed header.",
    )
    static_credential_sealed = SealedTextField()
    command = models.CharField(max_length=500, blank=True, help_text="For a local program.")
    arguments = models.JSONField(default=list, blank=True)
    environment_sealed = SealedTextField()

    connection_policy = models.CharField(
        max_length=24, choices=ConnectionPolicy.choices, default=ConnectionPolicy.PERSONAL
    )
    users = models.ManyToManyField(
        settings.AUTH_USER_MODEL,
        blank=True,
        related_name="mcp_servers",
        help_text="Who may use it. Nobody and no group chosen: everybody with an account.",
    )
    groups = models.ManyToManyField("auth.Group", blank=True, related_name="mcp_servers")
    gateway_enabled = models.BooleanField("gateway", default=False)
    request_timeout_seconds = models.PositiveIntegerField(
        default=60, validators=[MinValueValidator(1), MaxValueValidator(600)]
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = McpServerQuerySet.as_manager()

    class Meta:
        ordering = ("name",)
        verbose_name = "MCP server"
        permissions = (
            ("change_mcpserver_target", "Can change URL, issuer or endpoints of a server that has connections"),
            ("approve_issuer_change", "Can approve that a server changed its authorization server"),
        )
        constraints = (
            models.CheckConstraint(name="mcpserver_ttl_at_least_5", condition=Q(metadata_ttl_minutes__gte=5)),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def is_unattended(self) -> bool:
        """Whether nobody has to sign in to connect."""
        return self.auth_type == self.AuthType.OAUTH and GrantType(self.grant_type).is_unattended

    @property
    def has_sign_in(self) -> bool:
        """Whether it helps that a person signs in somewhere: at the service, or at the company's own."""
        return not self.is_unattended or self.grant_type == GrantType.TOKEN_EXCHANGE

    def clean(self) -> None:
        """Check what depends on several fields; no network."""
        problems = self._url_problems() | self._oauth_problems() | grant_problems(self)
        if self.transport == self.Transport.STDIO:
            problems |= self._stdio_problems()
        elif not self.url:
            problems["url"] = "A server that is reached by HTTP needs an address."
        if problems:
            raise ValidationError(problems)
        self.scopes = format_scope(parse_scope(self.scopes))

    def _url_problems(self) -> dict[str, str]:
        problems = {}
        for field in _URL_FIELDS:
            try:
                if value := getattr(self, field):
                    _validate_http_url(value)
            except ValidationError as error:
                problems[field] = error.messages[0]
        return problems

    def _oauth_problems(self) -> dict[str, str]:
        problems = {}
        if bool(self.authorization_endpoint) != bool(self.token_endpoint):
            problems["authorization_endpoint"] = "Authorization and token endpoint go together."
        if self.authorization_endpoint and not self.issuer:
            problems["issuer"] = "Endpoints set by hand need the issuer they belong to."
        if self.resource_mode == self.ResourceMode.CUSTOM and not self.resource:
            problems["resource"] = "Say which value to send."
        if self.registration == self.Registration.PRE_REGISTERED and not self.client_id:
            problems["client_id"] = "A pre-registered client needs its client id."
        return problems

    def _stdio_problems(self) -> dict[str, str]:
        if not settings.STDIO_SERVERS_ALLOWED:
            return {"transport": "Local programs are switched off here (STDIO_SERVERS_ALLOWED)."}
        if not self.command:
            return {"command": "A local program needs its command."}
        if self.auth_type != self.AuthType.NONE:
            return {"auth_type": "A local program takes its credentials from its environment."}
        if not (isinstance(self.arguments, list) and all(isinstance(argument, str) for argument in self.arguments)):
            return {"arguments": "The arguments are a list of texts."}
        return {"gateway_enabled": "The gateway does not reach local programs."} if self.gateway_enabled else {}
