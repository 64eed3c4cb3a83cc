"""Connections, sign-ins, people and webhooks in the admin; each module registers its own pages."""

from . import accounts, connections, webhooks

__all__ = ["accounts", "connections", "webhooks"]
