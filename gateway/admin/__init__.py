"""The gateway in the admin: importing the modules registers their pages."""

from . import callers, definitions, policies, usage_page

__all__ = ["callers", "definitions", "policies", "usage_page"]
