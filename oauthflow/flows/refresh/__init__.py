"""Refresh: one request at a time for a grant, in all processes, and no answer lost. docs/reliability.md."""

from .single import refresh_connection

__all__ = ["refresh_connection"]
