"""What the pages have in common: who is looking, what may be kept, and where a form may lead."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, cast

from csp.constants import SELF
from csp.decorators import csp_replace
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

P = ParamSpec("P")
Page = Callable[Concatenate[HttpRequest, P], HttpResponse]


class SignedInRequest(HttpRequest):
    """A request of a person whom we know."""

    user: User


SignedInPage = Callable[Concatenate[SignedInRequest, P], HttpResponse]


class SeeOther(HttpResponseRedirect):
    """A redirect that is followed by GET. RFC 9110 §15.4.4."""

    status_code = 303


def signed_in(*methods: str) -> Callable[[SignedInPage[P]], Page[P]]:
    """Serve a page to signed-in people only, for these methods only, and let nobody keep a copy.

    Somebody else is asked to sign in and comes back to the page; a form that was sent is not repeated.
    """

    def decorate(view: SignedInPage[P]) -> Page[P]:
        @wraps(view)
        def page(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
            if request.user.is_authenticated:
                return view(cast(SignedInRequest, request), *args, **kwargs)
            comes_back = request.method in ("GET", "HEAD")
            return redirect_to_login(request.get_full_path() if comes_back else reverse("oauthflow:connections"))

        return cast(Page[P], require_http_methods(list(methods))(never_cache(page)))

    return decorate


def leads_away(view: Page[P]) -> Page[P]:
    """Let the forms of a page end at an authorization server.

    Browsers hold `form-action` against every redirect that follows a form, and authorization servers send people on to
    login pages of other hosts. An exact list would break those sign-ins, so every https address is allowed here; plain
    http only where this site may use it at all.
    """
    targets = [SELF, "https:", *(["http:"] if settings.EGRESS_ALLOW else [])]
    return cast(Page[P], csp_replace({"form-action": targets})(view))


def way_back(request: HttpRequest, *, otherwise: str) -> SeeOther:
    """Return to the page that the form names, if it is one of ours, else to another."""
    named = request.POST.get("next", "")
    ours = url_has_allowed_host_and_scheme(named, allowed_hosts=None, require_https=request.is_secure())
    return SeeOther(named if ours else otherwise)
