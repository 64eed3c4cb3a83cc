"""Tell services what has ended here: at once where somebody waits, else by the worker, for a day."""

from .batch import revoke_due
from .single import tell_at_once

__all__ = ["revoke_due", "tell_at_once"]
