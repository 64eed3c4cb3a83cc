"""The mix-up of authorization servers, where one of them does not promise to name itself in its answers. S10."""

from __future__ import annotations

from connections.models import McpServer
from oauthflow.conf import configuration
from oauthflow.protocol.errors import IssNotSupportedError

from .discover import Discovered


def is_exposed(server: McpServer, found: Discovered) -> bool:
    """Whether this server's issuer does not promise `iss` while another one is known here.

    Spec: RFC 9207 §4, RFC 9700 §2.1, §4.4: a client of several authorization servers needs a defence.
    """
    return not found.metadata.iss_parameter_supported and _knows_another(server, issuer=found.issuer)


def require_iss(server: McpServer, found: Discovered) -> None:
    """Refuse an exposed server where the settings insist on `iss`.

    Raises:
        IssNotSupportedError: It is, and they do.
    """
    if configuration().require_iss and is_exposed(server, found):
        detail = f"{found.issuer} does not promise iss (RFC 9207), and a server with another issuer is configured here"
        raise IssNotSupportedError(detail)


def _knows_another(server: McpServer, *, issuer: str) -> bool:
    """Whether another server that people can use has another issuer, as found or else as entered by hand."""
    others = McpServer.objects.filter(auth_type=McpServer.AuthType.OAUTH).exclude(pk=server.pk)
    in_use = others.exclude(status=McpServer.Status.INACTIVE).values_list("discovery__issuer", "issuer").distinct()
    return bool({found or entered for found, entered in in_use} - {issuer, ""})
