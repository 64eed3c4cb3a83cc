"""The configuration in the admin."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from connections.models import McpServer


@pytest.fixture
def admin(administrator: User) -> Client:
    client = Client()
    client.force_login(administrator)
    return client


@pytest.mark.parametrize("page", ["mcpserver_add", "mcpserver_files", "mcpserver_changelist"])
def test_pages_open(admin: Client, server: McpServer, page: str) -> None:
    assert admin.get(reverse(f"admin:connections_{page}")).status_code == 200


def test_x(admin: Client, server: McpServer) -> None:
    assert admin.get(reverse("admin:connections_mcpserver_change", args=(server.pk,))).status_code == 200
