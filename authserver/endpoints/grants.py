"""A person takes back what a program was allowed."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone

from oauthflow.views.signed_in import SignedInRequest, signed_in, way_back

from ..flows.end_grants import end_consents
from ..models import Consent


@signed_in("POST")
def revoke_grant(request: SignedInRequest, consent_id: UUID) -> HttpResponse:
    """End one grant of the person who is signed in; nobody else learns that it exists. AS14, V10.7.3."""
    consent = get_object_or_404(Consent.objects.select_related("client"), pk=consent_id, user=request.user)
    end_consents(
        Consent.objects.filter(pk=consent.pk), reason="revoked_by_user", actor=request.user, now=timezone.now()
    )
    messages.success(request, f"“{consent.client}” can no longer act for you.")
    return way_back(request, otherwise="/connections/")
