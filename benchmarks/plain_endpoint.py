"""The endpoint of the reference: models, view and address."""

from __future__ import annotations

import os
from typing import Any

from cryptography.fernet import Fernet
from django.contrib.auth.models import User
from django.db import models
from django.shortcuts import get_object_or_404
from django.urls import path
from rest_framework.authentication import TokenAuthentication
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit.events import AuditEvent
from audit.record import record


class Connection(models.Model):
    """A stored access token of one user."""

    user = models.ForeignKey(User, models.CASCADE)
    access_token = models.BinaryField()
    token_type = models.CharField(max_length=20, default="Bearer")
    expires_at = models.DateTimeField()
    scope = models.CharField(max_length=1000, default="read")
    resource = models.CharField(max_length=1000, default="https://mcp.example/mcp")

    objects: models.Manager[Connection] = models.Manager()

    class Meta:
        app_label = "auth"

    def __str__(self) -> str:
        return f"{self.pk}"


class Release(models.Model):
    """What `--record row` inserts: who got which token when."""

    at = models.DateTimeField(auto_now_add=True, db_index=True)
    user = models.CharField(max_length=64, db_index=True)
    connection = models.CharField(max_length=36, db_index=True)
    details = models.JSONField(default=dict)

    objects: models.Manager[Release] = models.Manager()

    class Meta:
        app_label = "auth"

    def __str__(self) -> str:
        return f"{self.pk}"


class TokenView(APIView):
    """Release the token of one's own connection."""

    authentication_classes = (TokenAuthentication,)
    permission_classes = (IsAuthenticated,)
    renderer_classes = (JSONRenderer,)
    box = Fernet(os.environ["BENCHMARK_KEY"])
    record = os.environ["BENCHMARK_RECORD"]

    def post(self, request: Request, connection_id: int) -> Response:
        kept = get_object_or_404(Connection, pk=connection_id, user=request.user)
        if self.record == "row":
            Release.objects.create(user=str(request.user.pk), connection=str(kept.pk), details={"scope": kept.scope})
        elif self.record == "chain":
            said = {"scope": kept.scope, "expires_at": kept.expires_at}
            record(AuditEvent.TOKEN_RELEASED, actor=request.user, server="notes", connection=kept, details=said)
        released: dict[str, Any] = {
            "access_token": self.box.decrypt(bytes(kept.access_token)).decode(),
            "token_type": kept.token_type,
            "expires_at": kept.expires_at,
            "scope": kept.scope,
            "resource": kept.resource,
        }
        return Response(released, headers={"Cache-Control": "no-store"})


urlpatterns = [path("api/v1/connections/<int:connection_id>/token", TokenView.as_view())]
