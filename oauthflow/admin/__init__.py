"""Connections, sign-ins, people and webhooks in the admin; each module registers its own pages."""

from . import connections, webhooks

__all__ = ["connections", "webhooks"]
