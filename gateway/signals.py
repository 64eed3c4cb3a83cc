"""What the gateway tells those who watch it."""

from __future__ import annotations

from typing import Final

from django.dispatch import Signal

CALLS_NOTED: Final = Signal()
"""Sent with `calls`, a sequence of `gateway.calls.record.NotedCall`, from the thread that has written them."""
