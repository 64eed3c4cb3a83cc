"""Connections, sign-ins, sign-in services, people and webhooks in the admin; each module registers its own pages."""

from . import accounts, connections, issuers, webhooks

__all__ = ["accounts", "connections", "issuers", "webhooks"]
