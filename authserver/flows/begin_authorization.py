"""A client sent somebody's browser here: judge what it asks, and write down what the person will be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from connections.models import McpServer
from oauthflow.protocol.scopes import parse_scope
from oauthflow.protocol.secret import Secret

from ..conf import authserver_configuration
from ..models import Consent, McpClient, PendingAuthorization, fingerprint_of
from ..protocol.authorization_request import (
    Answerable,
    Asked,
    CheckedRequest,
    ClientRules,
    ResourceRules,
    check_request,
)
from ..protocol.errors import InteractionRequiredError
from ..rate_limit import take
from ..resources import Resource, api_resource, find_resource

if TYPE_CHECKING:
    from django.contrib.auth.models import User

STARTS_A_MINUTE: Final = 20


def rules_of(client: McpClient) -> ClientRules:
    """What limits the requests of a client."""
    return ClientRules(client.redirect_uris, client.grant_types, parse_scope(client.scope))


def count_start(user: User, *, now: datetime) -> None:
    """Count a request of this person's browser, before anything is fetched or kept for it.

    Raises:
        TooManyRequestsError: It was sent here too often; any site can send it.
    """
    take("authorize", who=str(user.pk), limit=STARTS_A_MINUTE, seconds=60, now=now)


def begin_authorization(
    parameters: Mapping[str, Sequence[str]],
    *,
    client: McpClient,
    answerable: Answerable,
    user: User,
    browser_hash: str,
    is_own_navigation: bool,
    now: datetime,
) -> PendingAuthorization:
    """Check a request and keep it for the person's decision.

    Args:
        parameters: Of the query, each with all its values.
        client: Of `resolve_client`.
        answerable: Of `read_answerable`.
        user: Who is signed in.
        browser_hash: Of this browser's session.
        is_own_navigation: The person, or a program of theirs, opened the address; no site sent the browser.
        now: Aware UTC.

    Returns:
        What waits for a decision; with `consent` set where the person has decided before and need not be asked.

    Raises:
        OAuthError: The request is refused; see `check_request`.
        InteractionRequiredError: The client wants no page, and the person has to be asked.

    Spec: RFC 6749 §4.1.1; RFC 8707 §2; security notes AS09, AS10. P-01, P-02.
    """
    resource = _resource(parameters, user=user)
    checked = check_request(Asked(parameters, rules_of(client), _rules(resource)), answerable=answerable)
    consent = _remembered(checked, client=client, user=user) if is_own_navigation else None
    if consent is None and checked.prompt == "none":
        raise InteractionRequiredError("The person has to be asked.")
    pending = PendingAuthorization(
        user=user,
        browser_hash=browser_hash,
        client=client,
        redirect_uri=answerable.redirect_uri,
        registered_redirect_uri=answerable.registered_redirect_uri,
        resource=checked.resource,
        scope=checked.scope,
        code_challenge=checked.code_challenge,
        server=resource.server if resource else None,
        consent=consent,
        connection=consent.connection if consent else None,
        created_at=now,
        expires_at=now + timedelta(minutes=authserver_configuration().consent_minutes),
        decided_at=now if consent else None,
    )
    # One character in front, since no state and an empty one are two things to return.
    pending.state_sealed = Secret(f"={answerable.state}") if answerable.state is not None else Secret("")
    pending.save(force_insert=True)
    return pending


def _resource(parameters: Mapping[str, Sequence[str]], *, user: User) -> Resource | None:
    """The one that is asked for, if this person may use it; without a word about it, this site's own interface."""
    asked = next(iter(parameters.get("resource", ())), "") or api_resource()
    found = find_resource(asked)
    if found is None or found.server is None:
        return found
    usable = McpServer.objects.usable_by(user).filter(pk=found.server.pk).exists()
    return found if usable else None


def _rules(resource: Resource | None) -> ResourceRules | None:
    if resource is None:
        return None
    scopes = frozenset(resource.scopes)
    return ResourceRules(resource.uri, scopes, resource.default_scopes)


def _remembered(checked: CheckedRequest, *, client: McpClient, user: User) -> Consent | None:
    """The same question, answered before, by the same person, for a client that an administrator vouches for. AS09."""
    if not client.verified or checked.prompt not in ("", "none"):
        return None
    fingerprint = fingerprint_of(
        redirect_uri=checked.answerable.registered_redirect_uri, resource=checked.resource, scope=checked.scope
    )
    return Consent.objects.standing().filter(user=user, client=client, fingerprint=fingerprint).first()
