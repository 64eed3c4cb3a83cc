"""The gateway in the admin: importing the modules registers their pages."""

from . import definitions, policies, usage_page

__all__ = ["definitions", "policies", "usage_page"]
