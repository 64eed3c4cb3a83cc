"""What other apps do in the transaction of an audit record."""

from __future__ import annotations

from typing import Final

from django.dispatch import Signal

APPENDED: Final = Signal()
"""Sent with `entries`, the records just written, inside their transaction and with the end of the chain locked.

A receiver that raises makes the whole change fail: what it writes belongs to the change. It has to be quick.
"""
