"""The authorization server in the admin. Django finds the pages by importing this package."""

from . import clients, consents, registration_tokens, resources

__all__ = ["clients", "consents", "registration_tokens", "resources"]
