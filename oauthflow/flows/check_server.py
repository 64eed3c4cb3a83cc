"""Try what a first sign-in would need, without signing in, and say in words what was found."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from connections.models import FlowTrace, McpServer
from connections.profiles import profile_of
from oauthflow.conf import redirect_uri
from oauthflow.egress import Egress
from oauthflow.protocol.errors import FlowError, NoClientError, NotConfiguredError
from oauthflow.protocol.grant_types import GrantType
from oauthflow.protocol.registration import RegistrationMethod
from oauthflow.protocol.token_endpoint import DPOP

from .attempt import traced
from .bind_tokens import wanted_token_type
from .connect_unattended import unattended_terms
from .discover import Discovered, discover
from .mix_up import is_exposed, require_iss
from .refresh.assertions import platform_assertion
from .register_client import registration_method

if TYPE_CHECKING:
    from django.contrib.auth.models import User

_WAYS = {
    RegistrationMethod.PRE_REGISTERED: "uses the client id entered here",
    RegistrationMethod.METADATA_DOCUMENT: "knows this site by its Client ID Metadata Document",
    RegistrationMethod.DYNAMIC: "registers this site by itself at the first sign-in",
}
_EXPOSED = (
    "Warning: it does not promise to name itself in its answers (iss, RFC 9207), and servers with another sign-in "
    "service are configured here: a malicious one of them could have codes of this one sent to itself. "
    "OAUTH_REQUIRE_ISS refuses such services."
)


def check_server(server: McpServer, *, user: User | None, now: datetime) -> FlowTrace:
    """Discover now and say whether people could connect; registers nothing.

    Returns:
        The kept trace: `ok`, `code`, `verdict` in words for an administrator, and every step.
    """
    if server.auth_type != McpServer.AuthType.OAUTH:
        return FlowTrace.objects.create(
            server=server, user=user, kind=FlowTrace.Kind.CHECK, ok=True, verdict="This server needs no sign-in."
        )
    verdict = ""
    try:
        with traced(server, kind=FlowTrace.Kind.CHECK, user=user) as http:
            found = discover(server, http=http, now=now, fresh=True)
            verdict = _unattended_verdict(server, found, http=http, now=now) if server.is_unattended else ""
            if not server.is_unattended:
                require_iss(server, found)
                verdict = _verdict(server, found)
    except NotConfiguredError as error:
        verdict = f"{error.message} {error.detail.capitalize()}."
    except NoClientError as error:
        verdict = f"{error.message} {error.detail} {_what_to_register(server)}"
    except FlowError:
        pass  # the trace has it, with its verdict
    newest = FlowTrace.objects.filter(server=server, kind=FlowTrace.Kind.CHECK).latest("created_at")
    if verdict:
        newest.verdict = verdict
        newest.save(update_fields=["verdict"])
    return newest


def _verdict(server: McpServer, found: Discovered) -> str:
    method = registration_method(server, found)
    said = [f"People can connect. The sign-in service {found.issuer} {_WAYS[method]}."]
    if method == RegistrationMethod.PRE_REGISTERED:
        said.append(f"Its client must have the redirect URI {redirect_uri()}.")
    if found.is_legacy:
        said.append("The server follows the rules of revision 2025-03-26: it publishes no metadata about itself.")
    if found.metadata.revocation_endpoint is None:
        said.append("It offers no revocation: disconnecting forgets the tokens here only.")
    if is_exposed(server, found):
        said.append(_EXPOSED)
    return " ".join([*said, profile_of(server.profile).note]).strip()


def _unattended_verdict(server: McpServer, found: Discovered, *, http: Egress, now: datetime) -> str:
    """Say whether access can be asked for; nothing is asked for, so what the service thinks of it stays open."""
    terms = unattended_terms(server, found, http=http, now=now)
    if server.grant_type == GrantType.JWT_BEARER:
        platform_assertion(server, token_endpoint=terms.token_endpoint, now=now)
    said = [f"Nobody has to sign in there: {found.issuer} gives access by {server.grant_type}."]
    if terms.client_id:
        said.append(f"This site is {terms.client_id} there and authenticates by {terms.auth_method}.")
    if wanted_token_type(server, found) == DPOP:
        said.append("Tokens are bound to a key of each connection (DPoP).")
    return " ".join(said)


def _what_to_register(server: McpServer) -> str:
    return (
        f"Register a client of type web application there, with exactly this redirect URI: {redirect_uri()} "
        f"and enter its id and secret here. {profile_of(server.profile).note}"
    ).strip()
