"""What many tests share: people, a fixed present, and a network that answers nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import User


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice", email="alice@example.com", password="correct horse battery")


@pytest.fixture
def bob(db: None) -> User:
    return User.objects.create_user("bob", email="bob@example.com", password="correct horse battery")


@pytest.fixture
def administrator(db: None) -> User:
    return User.objects.create_superuser("root", email="root@example.com", password="correct horse battery")
