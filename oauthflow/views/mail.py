"""How often I want e-mail."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone

from oauthflow.models import MailPreference

from .signed_in import SeeOther, SignedInRequest, signed_in

Rhythm = MailPreference.Rhythm


@signed_in("GET", "HEAD", "POST")
def preferences(request: SignedInRequest) -> HttpResponse:
    """Show or keep what a person chooses; letters name this page as the one to end them."""
    chosen = request.POST.get("rhythm", "")
    if request.method == "POST" and chosen in Rhythm:
        MailPreference.choose(request.user, Rhythm(chosen), now=timezone.now())
        messages.success(request, "Saved.")
        return SeeOther("/accounts/mail")
    context = {
        "choices": Rhythm.choices,
        "chosen": MailPreference.rhythm_of(request.user),
        "mail_is_on": settings.EMAIL_ENABLED,
    }
    return render(request, "oauthflow/mail_preferences.html", context)
