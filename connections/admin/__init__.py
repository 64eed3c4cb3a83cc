"""The configuration in the admin; each module registers its own pages."""

from . import api_tokens, identity_providers, records, servers

__all__ = ["api_tokens", "identity_providers", "records", "servers"]
