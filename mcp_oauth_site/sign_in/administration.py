"""The administration opens to staff who signed in with a second factor, where the operator wants that."""

from __future__ import annotations

from django.conf import settings
from django.contrib.admin import AdminSite, site
from django.contrib.admin.apps import AdminConfig
from django.http import HttpRequest


class AdministrationConfig(AdminConfig):
    """Puts our own site in the place of Django's."""

    default_site = "mcp_oauth_site.sign_in.administration.Administration"

    def ready(self) -> None:
        """Find every admin, and leave out allauth's for what it would keep unsealed and this site never reads."""
        super().ready()
        from allauth.socialaccount.models import SocialApp, SocialToken

        site.unregister([SocialApp, SocialToken])


class Administration(AdminSite):
    """Django's admin, which sends everybody to the site's own page to sign in."""

    def has_permission(self, request: HttpRequest) -> bool:
        return super().has_permission(request) and not lacks_second_factor(request)


def lacks_second_factor(request: HttpRequest) -> bool:
    """Say whether this session would have to begin again, with a second factor, to open the administration."""
    from .second_factors import signed_in_strongly

    return bool(settings.ADMIN_SECOND_FACTOR) and not signed_in_strongly(request)
