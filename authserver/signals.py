"""What this app tells whoever wants to know."""

from __future__ import annotations

from typing import Final

from django.dispatch import Signal

TOKEN_ANSWERED: Final = Signal()
"""The token endpoint answered: `grant_type` (one of ours, or `other`) and `error` (a wire code, empty: a token)."""
