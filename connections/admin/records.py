"""What was found, registered and tried: to look at only."""

from __future__ import annotations

from django.contrib import admin
from django.utils.safestring import SafeString

from audit.look_only import LookOnlyAdmin, badge, document, moment, nothing

from ..forms import sealed_state
from ..models import AuthorizationServer, ClientRegistration, FlowTrace, Revocation, ServerDiscovery
from .badges import reason_in_words, trace_badge


@admin.register(ClientRegistration)
class ClientRegistrationAdmin(LookOnlyAdmin):
    """How authorization servers know this site; a reset is a button beside the server."""

    list_display = ("client_id", "server", "issuer", "state", "auth_method", "created")
    list_filter = ("status", "auth_method", ("server", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("server",)
    search_fields = ("client_id", "issuer", "server__name", "server__slug")
    fields = (
        "server", "issuer", "state", "client_id", "client_secret", "client_secret_ends", "auth_method",
        "redirect_uri", "scope", "can_be_deleted_there", "created",
    )  # fmt: skip

    @admin.display(description="status", ordering="status")
    def state(self, registration: ClientRegistration) -> SafeString:
        tone = "good" if registration.status == ClientRegistration.Status.ACTIVE else ""
        return badge(registration.get_status_display(), tone=tone)

    @admin.display(description="client secret")
    def client_secret(self, registration: ClientRegistration) -> SafeString:
        return sealed_state(registration.client_secret_sealed)

    @admin.display(description="client secret ends")
    def client_secret_ends(self, registration: ClientRegistration) -> SafeString:
        return moment(registration.client_secret_expires_at, otherwise="never")

    @admin.display(description="can be deleted there", boolean=True)
    def can_be_deleted_there(self, registration: ClientRegistration) -> bool:
        return bool(registration.registration_client_uri and registration.registration_access_token_sealed)

    @admin.display(ordering="created_at")
    def created(self, registration: ClientRegistration) -> SafeString:
        return moment(registration.created_at)


@admin.register(AuthorizationServer)
class AuthorizationServerAdmin(LookOnlyAdmin):
    """What authorization servers publish about themselves."""

    list_display = ("issuer", "pkce", "registers", "fetched")
    search_fields = ("issuer",)
    fields = ("issuer", "source_url", "fetched", "published")

    @admin.display(description="PKCE")
    def pkce(self, server: AuthorizationServer) -> SafeString:
        methods = server.document.get("code_challenge_methods_supported") or []
        return badge("S256", tone="good") if "S256" in methods else badge("Not promised", tone="bad")

    @admin.display(description="registration")
    def registers(self, server: AuthorizationServer) -> SafeString:
        ways = []
        if server.document.get("client_id_metadata_document_supported") is True:
            ways.append("metadata document")
        if server.document.get("registration_endpoint"):
            ways.append("dynamic")
        return badge(", ".join(ways), tone="good") if ways else badge("By hand", tone="warn")

    @admin.display(ordering="fetched_at")
    def fetched(self, server: AuthorizationServer) -> SafeString:
        return moment(server.fetched_at)

    @admin.display(description="metadata")
    def published(self, server: AuthorizationServer) -> SafeString:
        return document(server.document)


@admin.register(ServerDiscovery)
class ServerDiscoveryAdmin(LookOnlyAdmin):
    """What each MCP server says of itself, and how its last discovery ended."""

    list_display = ("server", "state", "issuer", "resource", "fetched", "valid")
    list_filter = ("is_legacy", "failure_code")
    list_select_related = ("server",)
    search_fields = ("server__name", "server__slug", "issuer", "new_issuer")
    fields = (
        "server", "state", "issuer", "new_issuer", "authorization_server", "resource", "scopes_supported",
        "challenge_scope", "is_legacy", "fetched", "valid", "failed", "why", "failure_detail", "published",
    )  # fmt: skip

    @admin.display(description="status")
    def state(self, discovery: ServerDiscovery) -> SafeString:
        if discovery.new_issuer:
            return badge("New issuer waits for approval", tone="bad")
        if discovery.failure_code:
            return badge("Failed", tone="bad")
        return badge("Found", tone="good") if discovery.authorization_server_id else badge("Not found yet")

    @admin.display(ordering="fetched_at")
    def fetched(self, discovery: ServerDiscovery) -> SafeString:
        return moment(discovery.fetched_at)

    @admin.display(description="asked again", ordering="expires_at")
    def valid(self, discovery: ServerDiscovery) -> SafeString:
        return moment(discovery.expires_at, otherwise="at the next use")

    @admin.display(description="failed")
    def failed(self, discovery: ServerDiscovery) -> SafeString:
        return moment(discovery.failed_at)

    @admin.display(description="reason")
    def why(self, discovery: ServerDiscovery) -> str:
        return reason_in_words(discovery.failure_code) or nothing()

    @admin.display(description="resource metadata")
    def published(self, discovery: ServerDiscovery) -> SafeString:
        return document(discovery.resource_document)


@admin.register(Revocation)
class RevocationAdmin(LookOnlyAdmin):
    """What ended here, and how far its service was told; kept for a week after its end."""

    list_display = ("what", "server", "issuer", "state", "attempts", "next", "created")
    list_display_links = ("what",)
    list_filter = ("outcome", "kind")
    search_fields = ("server", "issuer", "connection_id", "reason")
    fields = (
        "what", "server", "issuer", "endpoint", "state", "attempts", "why", "next", "given_up", "reason",
        "connection_id", "created", "ended",
    )  # fmt: skip

    @admin.display(description="what", ordering="kind")
    def what(self, revocation: Revocation) -> str:
        return revocation.get_kind_display()

    @admin.display(description="at the service", ordering="outcome")
    def state(self, revocation: Revocation) -> SafeString:
        if revocation.finished_at is None:
            return badge("Not told yet", tone="warn")
        tones = {Revocation.Outcome.REVOKED.value: "good", Revocation.Outcome.GIVEN_UP.value: "bad"}
        return badge(revocation.get_outcome_display(), tone=tones.get(revocation.outcome, ""))

    @admin.display(description="why not yet")
    def why(self, revocation: Revocation) -> str:
        return reason_in_words(revocation.last_error) or nothing()

    @admin.display(description="next try", ordering="next_attempt_at")
    def next(self, revocation: Revocation) -> SafeString:
        return moment(revocation.next_attempt_at)

    @admin.display(description="given up")
    def given_up(self, revocation: Revocation) -> SafeString:
        return moment(revocation.give_up_at if revocation.finished_at is None else None)

    @admin.display(description="ended here", ordering="created_at")
    def created(self, revocation: Revocation) -> SafeString:
        return moment(revocation.created_at)

    @admin.display(description="over")
    def ended(self, revocation: Revocation) -> SafeString:
        return moment(revocation.finished_at)


@admin.register(FlowTrace)
class FlowTraceAdmin(LookOnlyAdmin):
    """What was tried against servers, step by step; the newest twenty of each are kept."""

    list_display = ("attempt", "server", "state", "verdict", "who", "created")
    list_display_links = ("attempt",)
    list_filter = ("ok", "kind", ("server", admin.RelatedOnlyFieldListFilter), "code")
    list_select_related = ("server", "user")
    search_fields = ("server__name", "server__slug", "code", "verdict", "correlation_id")
    fields = ("server", "attempt", "state", "verdict", "code", "who", "connection", "correlation_id", "created")
    change_form_template = "admin/connections/flowtrace/change_form.html"

    @admin.display(description="attempt", ordering="kind")
    def attempt(self, trace: FlowTrace) -> str:
        return trace.get_kind_display()

    @admin.display(description="result", ordering="ok")
    def state(self, trace: FlowTrace) -> SafeString:
        return trace_badge(trace)

    @admin.display(description="by", ordering="user")
    def who(self, trace: FlowTrace) -> str:
        return trace.user.get_username() if trace.user else "the system"

    @admin.display(description="when", ordering="created_at")
    def created(self, trace: FlowTrace) -> SafeString:
        return moment(trace.created_at)
