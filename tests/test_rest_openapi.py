"""The OpenAPI document of the REST interface is true: whatever is sent, the answers are those that it lists."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import pytest
import schemathesis
from django.contrib.auth.models import User
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from django.utils import timezone
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, negative_data_rejection, positive_data_acceptance

from connections.api_tokens import issue_api_token
from connections.models.api_token import ApiScope
from oauthflow.api import tools
from oauthflow.flows.webhooks import deliver
from tests.fakes.internet import Answer, FakeSender
from tests.fakes.world import World

from .test_access_matrix import OPERATIONS, Named, alices

__all__ = ["alices"]
pytestmark = pytest.mark.django_db

# The same ones each time: what is found anew belongs into a run with more of them, not into somebody's change.
FEW: Final = settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
# What is well formed may still be refused, also because of other servers, and we may allow more than the document.
_NOT_MEANT: Final = [positive_data_acceptance, negative_data_rejection, ignored_auth, not_a_server_error]


@cache
def document() -> Any:
    found = schemathesis.openapi.from_dict(SchemaGenerator().get_schema(request=None, public=True))
    found.app = get_wsgi_application()
    return found


@pytest.fixture(autouse=True)
def _same_connection() -> Iterator[None]:
    """As Django's own test client does: a request leaves the connection open, and with it the test's transaction."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def token(alice: User) -> str:
    """Of somebody who may do everything."""
    User.objects.filter(pk=alice.pk).update(is_superuser=True)
    return issue_api_token(alice, scopes=ApiScope.values, name="laptop", now=timezone.now()).token.reveal()


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize("label", OPERATIONS)
def test_every_operation_answers_whom_it_knows_as_the_document_says(
    label: str, mode: GenerationMode, token: str, alices: Named, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "list_tools", lambda connection, **said: [])
    monkeypatch.setattr(tools, "call_tool", lambda connection, **said: {"content": [], "isError": False})
    monkeypatch.setattr(deliver, "open_sender", lambda *limits, **said: FakeSender(world.internet))
    world.internet[f"https://{alices.slug}.example"] = lambda call: Answer(204)
    method, _, path = label.partition(" ")

    @FEW
    @given(case=document()[path][method].as_strategy(mode))
    def answer(case: Any) -> None:
        for name in case.path_parameters:
            case.path_parameters[name] = getattr(alices, name)
        before = transaction.savepoint()
        said = case.call(headers={"Authorization": f"Bearer {token}"})
        transaction.savepoint_rollback(before)
        case.validate_response(said, excluded_checks=_NOT_MEANT)

    answer()
