"""The admin has no login page of its own: everybody signs in at the site's."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache

from .administration import lacks_second_factor

_WHY = "The administration needs a second factor. Set one up here, or sign out and in again with the one that you have."


@never_cache
def admin_login(request: HttpRequest) -> HttpResponse:
    """Send somebody to the site's login page and from there back to where they wanted to go in the admin.

    Raises:
        PermissionDenied: They are signed in, but not as staff; signing in once more would change nothing.
    """
    named = request.GET.get("next", "")
    ours = url_has_allowed_host_and_scheme(named, allowed_hosts=None, require_https=request.is_secure())
    target = named if ours else reverse("admin:index")
    if not request.user.is_authenticated:
        return redirect_to_login(target)
    if not (request.user.is_active and request.user.is_staff):
        raise PermissionDenied
    if lacks_second_factor(request):
        messages.info(request, _WHY)
        return HttpResponseRedirect(reverse("mfa_index"))
    return HttpResponseRedirect(target)
