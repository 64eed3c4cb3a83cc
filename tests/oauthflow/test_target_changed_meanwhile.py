"""An administrator points a server elsewhere while something is found out about where it led: none of that is kept."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest
from django.contrib.auth.models import User

from connections.models import Connection, McpServer, ServerDiscovery, TokenSet
from connections.server_changes import change_server
from oauthflow.flows.connect_unattended import connect_unattended
from oauthflow.flows.start_authorization import start_authorization
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.errors import DiscoveryError, FlowError, TransportError
from oauthflow.protocol.secret import Secret
from tests.fakes.internet import Answer, Call, Fake
from tests.fakes.world import World

METADATA, REGISTRATION = "/.well-known/oauth-authorization-server", "/register"


class Meanwhile:
    """Does something once, while an address is asked for."""

    def __init__(self, fake: Fake, path: str, something: Callable[[], None]) -> None:
        self._fake, self._path, self._something = fake, path, something
        self.is_done = False

    def __call__(self, call: Call) -> Answer:
        if call.path.startswith(self._path) and not self.is_done:
            self.is_done = True
            self._something()
        return self._fake(call)


@pytest.fixture
def point_elsewhere(administrator: User, now: datetime) -> Callable[[], None]:
    def change() -> None:
        server = McpServer.objects.get()
        server.url = "https://elsewhere.example/mcp"
        change_server(server, actor=administrator, now=now, confirmed=True)

    return change


@pytest.mark.parametrize("path", [METADATA, REGISTRATION])
def test_a_sign_in_that_was_being_prepared_is_not_begun(
    world: World, alice: User, now: datetime, point_elsewhere: Callable[[], None], path: str
) -> None:
    connection = world.connection(alice)
    changing = Meanwhile(world.authorization_server, path, point_elsewhere)
    world.internet["https://as.example"] = changing

    with pytest.raises(TransportError) as refused:
        start_authorization(connection, user=alice, now=now)

    assert changing.is_done
    assert refused.value.retryable
    assert not AuthorizationRequest.objects.exists()
    assert not ServerDiscovery.objects.filter(authorization_server__isnull=False).exists()


def test_a_failure_to_find_out_is_not_believed_of_the_new_target(
    world: World, alice: User, now: datetime, point_elsewhere: Callable[[], None]
) -> None:
    connection = world.connection(alice)
    world.internet["https://as.example"] = Meanwhile(lambda call: Answer(404), METADATA, point_elsewhere)

    with pytest.raises(FlowError) as refused:
        start_authorization(connection, user=alice, now=now)

    assert not isinstance(refused.value, DiscoveryError)
    assert not ServerDiscovery.objects.exclude(failure_code="").exists()


def test_a_secret_for_the_new_target_is_not_sent_where_the_old_one_led(
    world: World, alice: User, now: datetime, point_elsewhere: Callable[[], None]
) -> None:
    world.authorization_server.grant_types = ["client_credentials"]
    server = world.server(grant_type="client_credentials", client_id="robot", client_secret_sealed=Secret("secret"))
    connection = Connection.objects.create(server=server)
    world.internet["https://as.example"] = Meanwhile(world.authorization_server, METADATA, point_elsewhere)

    with pytest.raises(TransportError):
        connect_unattended(connection, actor=None, now=now)

    assert not TokenSet.objects.exists()
    assert world.authorization_server.token_requests == []
