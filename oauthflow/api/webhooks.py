"""Webhooks over REST: list, make, look, change, end, try out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final
from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from connections.authentication import AccessTokenGrant
from connections.models import ApiToken
from connections.models.api_token import ApiScope
from oauthflow.flows.webhooks.configure import change_webhook, create_webhook, delete_webhook, rotate_secret
from oauthflow.flows.webhooks.deliver import send_test
from oauthflow.models import EventType, Webhook, WebhookDelivery
from oauthflow.models.webhook import SITE_WIDE_PERMISSION
from oauthflow.serializers import NothingSerializer, StrictSerializer

from .answers import REFUSALS
from .rest_view import RestView, said

if TYPE_CHECKING:
    from django.contrib.auth.models import User

_READ: Final = ApiScope.CONNECTIONS_READ
_WRITE: Final = ApiScope.CONNECTIONS_WRITE
_DELIVERIES_SHOWN: Final = 20


class DeliverySerializer(serializers.ModelSerializer[WebhookDelivery]):
    """What became of one message. Its `id` is the `webhook-id` that the receiver sees."""

    id = serializers.CharField(source="message_id", read_only=True)

    class Meta:
        model = WebhookDelivery
        fields = (
            "id", "event_type", "event_cursor", "status", "attempts", "next_attempt_at", "last_attempt_at",
            "last_status", "last_error", "last_duration_ms", "created_at",
        )  # fmt: skip
        read_only_fields = fields


class WebhookSerializer(serializers.ModelSerializer[Webhook]):
    """A webhook as it is shown: never its secret."""

    owner = serializers.SlugRelatedField[Any](slug_field="username", read_only=True, allow_null=True)
    events = serializers.ListField(child=serializers.ChoiceField(choices=EventType.choices), read_only=True)
    disabled_because = serializers.ChoiceField(choices=Webhook.Trouble.choices, allow_blank=True, read_only=True)

    class Meta:
        model = Webhook
        fields: ClassVar[tuple[str, ...]] = (
            "id", "url", "description", "events", "enabled", "disabled_because", "owner", "failures",
            "previous_secret_until", "created_at", "updated_at",
        )  # fmt: skip
        read_only_fields = fields


class WebhookDetailSerializer(WebhookSerializer):
    """A webhook with the newest of its deliveries."""

    deliveries = serializers.SerializerMethodField()

    class Meta(WebhookSerializer.Meta):
        fields: ClassVar[tuple[str, ...]] = (*WebhookSerializer.Meta.fields, "deliveries")

    @extend_schema_field(DeliverySerializer(many=True))
    def get_deliveries(self, webhook: Webhook) -> Any:
        """Return the newest deliveries."""
        return DeliverySerializer(webhook.deliveries.all()[:_DELIVERIES_SHOWN], many=True).data


class WebhookWithSecretSerializer(WebhookSerializer):
    """A webhook with a secret that was made by this call, and is shown by no other."""

    secret = serializers.CharField(required=False, help_text="whsec_…; only where this call made it.")

    class Meta(WebhookSerializer.Meta):
        fields: ClassVar[tuple[str, ...]] = (*WebhookSerializer.Meta.fields, "secret")


class WebhookListSerializer(serializers.Serializer[Any]):
    """All webhooks that the caller manages."""

    results = WebhookSerializer(many=True)


class NewWebhookSerializer(StrictSerializer):
    """What a webhook is made of."""

    url = serializers.CharField(max_length=1000)
    description = serializers.CharField(max_length=200, allow_blank=True, default="")
    events = serializers.ListField(
        child=serializers.ChoiceField(choices=EventType.choices), default=list, help_text="Empty: all."
    )
    site_wide = serializers.BooleanField(
        default=False, help_text="Hears of all connections of the site; takes a permission."
    )


class WebhookChangeSerializer(StrictSerializer):
    """What can be changed."""

    url = serializers.CharField(max_length=1000, required=False)
    description = serializers.CharField(max_length=200, allow_blank=True, required=False)
    events = serializers.ListField(child=serializers.ChoiceField(choices=EventType.choices), required=False)
    enabled = serializers.BooleanField(required=False)
    rotate_secret = serializers.BooleanField(
        default=False, help_text="Make a new secret; the one before signs as well for a day."
    )


class WebhooksView(RestView):
    """The caller's own webhooks, and those of the site for whoever may manage them."""

    required_scopes: ClassVar = {"GET": _READ, "POST": _WRITE}

    @extend_schema(
        operation_id="webhooks_list", summary="List webhooks", responses={200: WebhookListSerializer, **REFUSALS}
    )
    def get(self, request: Request) -> Response:
        found = Webhook.objects.managed_by(self.person).select_related("owner")
        return Response({"results": WebhookSerializer(found, many=True).data})

    @extend_schema(
        operation_id="webhooks_create", summary="Make a webhook; the answer alone holds its secret",
        request=NewWebhookSerializer, responses={201: WebhookWithSecretSerializer, **REFUSALS},
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        wanted = said(NewWebhookSerializer, request) | _set_up_by(request)
        is_site_wide = wanted.pop("site_wide")
        if is_site_wide and not self.person.has_perm(SITE_WIDE_PERMISSION):
            raise PermissionDenied("Webhooks of the whole site take a permission that your account does not have.")
        owner = None if is_site_wide else self.person
        webhook, secret = create_webhook(**wanted, owner=owner, actor=self.person, now=timezone.now())
        return Response({**WebhookSerializer(webhook).data, "secret": secret.reveal()}, status=201)


class WebhookView(RestView):
    """One webhook."""

    required_scopes: ClassVar = {"GET": _READ, "PATCH": _WRITE, "DELETE": _WRITE}

    @extend_schema(
        operation_id="webhooks_read", summary="Show a webhook with its newest deliveries",
        responses={200: WebhookDetailSerializer, **REFUSALS},
    )  # fmt: skip
    def get(self, request: Request, webhook_id: UUID) -> Response:
        return Response(WebhookDetailSerializer(self._webhook(webhook_id)).data)

    @extend_schema(
        operation_id="webhooks_change", summary="Change a webhook, or its secret",
        request=WebhookChangeSerializer, responses={200: WebhookWithSecretSerializer, **REFUSALS},
    )  # fmt: skip
    def patch(self, request: Request, webhook_id: UUID) -> Response:
        webhook = self._webhook(webhook_id)
        changes = said(WebhookChangeSerializer, request)
        rotates = changes.pop("rotate_secret")
        change_webhook(webhook, actor=self.person, **_set_up_by(request), **changes)
        shown = {}
        if rotates:
            shown["secret"] = rotate_secret(webhook, actor=self.person, now=timezone.now()).reveal()
        return Response({**WebhookSerializer(webhook).data, **shown})

    @extend_schema(operation_id="webhooks_delete", summary="End a webhook", responses={204: None, **REFUSALS})
    def delete(self, request: Request, webhook_id: UUID) -> Response:
        delete_webhook(self._webhook(webhook_id), actor=self.person)
        return Response(status=204)

    def _webhook(self, webhook_id: UUID) -> Webhook:
        return managed_webhook(self.person, webhook_id)


class WebhookTestView(RestView):
    """Try a webhook out."""

    required_scopes: ClassVar = {"POST": _WRITE}

    @extend_schema(
        operation_id="webhooks_test", summary="Send a test now, and say how it went",
        request=NothingSerializer, responses={200: DeliverySerializer, **REFUSALS},
    )  # fmt: skip
    def post(self, request: Request, webhook_id: UUID) -> Response:
        said(NothingSerializer, request)
        delivery = send_test(managed_webhook(self.person, webhook_id), now=timezone.now())
        return Response(DeliverySerializer(delivery).data)


def _set_up_by(request: Request) -> dict[str, Any]:
    """The program or the API token that does it; neither where the person does it in their own session."""
    return {
        "program": request.auth.name if isinstance(request.auth, AccessTokenGrant) else "",
        "api_token": request.auth if isinstance(request.auth, ApiToken) else None,
    }


def managed_webhook(user: User, webhook_id: UUID) -> Webhook:
    """Return a webhook that the user may see and change.

    Raises:
        NotFound: There is none of that id, or it is somebody else's: one answer for both. Z01.
    """
    found = Webhook.objects.managed_by(user).select_related("owner").filter(pk=webhook_id).first()
    if found is None:
        raise NotFound
    return found
