import uuid

import django.core.validators
import django.db.models.deletion
from django.db import migrations, models

import connections.sealing
import gateway.models.inbound_trust


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("connections", "0007_revocation_outbox"),
    ]

    operations = [
        migrations.CreateModel(
            name="InboundTrust",
            fields=[
                (
                    "server",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="inbound_trust",
                        serialize=False,
                        to="connections.mcpserver",
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("own", "This site"),
                            ("issuer", "Another issuer: signed tokens (JWT)"),
                            ("introspection", "Another issuer: asked about each token (introspection)"),
                        ],
                        default="own",
                        max_length=13,
                        verbose_name="tokens come from",
                    ),
                ),
                (
                    "allow_api_tokens",
                    models.BooleanField(
                        default=False,
                        help_text="Scripts may call with a personal API token that has the scope tools:call.",
                        verbose_name="API tokens of this site",
                    ),
                ),
                (
                    "issuer",
                    models.CharField(
                        blank=True,
                        help_text="Exactly as its tokens and its metadata spell it.",
                        max_length=500,
                        verbose_name="issuer URL",
                    ),
                ),
                (
                    "audience",
                    models.CharField(
                        blank=True,
                        help_text="What its tokens have as their audience. Empty: the gateway address.",
                        max_length=500,
                    ),
                ),
                (
                    "scope",
                    models.CharField(
                        default="mcp:access",
                        help_text="Space separated; all of them are needed.",
                        max_length=200,
                        verbose_name="scope needed",
                    ),
                ),
                (
                    "broader_scope",
                    models.CharField(
                        blank=True,
                        help_text="Space separated; any of these is enough instead. No scope implies another by its spelling.",
                        max_length=500,
                        verbose_name="scopes that imply it",
                    ),
                ),
                (
                    "person_by",
                    models.CharField(
                        choices=[
                            ("subject", "Subject: people who signed in here through this issuer"),
                            ("verified_email", "E-mail address that the issuer has verified"),
                            ("username", "Claim that holds the user name here"),
                        ],
                        default="subject",
                        max_length=14,
                        verbose_name="people are known by",
                    ),
                ),
                (
                    "username_claim",
                    models.CharField(
                        blank=True,
                        help_text="Only a claim that people cannot change themselves at the issuer.",
                        max_length=60,
                        validators=[
                            django.core.validators.RegexValidator(
                                "\\A[\\x21-\\x7e]*\\Z", "This is not the name of a claim."
                            )
                        ],
                    ),
                ),
                (
                    "jwks_uri",
                    models.CharField(
                        blank=True,
                        help_text="Empty: as the issuer's metadata says.",
                        max_length=1000,
                        verbose_name="address of its keys",
                    ),
                ),
                (
                    "algorithms",
                    models.JSONField(
                        blank=True,
                        default=gateway.models.inbound_trust.usual_algorithms,
                        help_text="A list, out of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, Ed25519.",
                    ),
                ),
                (
                    "accept_plain_jwt",
                    models.BooleanField(
                        default=False,
                        help_text="For issuers that do not follow RFC 9068: typ is JWT or missing. Audience and scope alone then tell an access token from other tokens.",
                        verbose_name="accept tokens that are not marked as access tokens",
                    ),
                ),
                ("introspection_endpoint", models.CharField(blank=True, max_length=1000)),
                ("client_id", models.CharField(blank=True, max_length=500, verbose_name="our client id there")),
                ("client_secret_sealed", connections.sealing.SealedTextField(blank=True, default="")),
                (
                    "cache_seconds",
                    models.PositiveSmallIntegerField(
                        default=15,
                        help_text="How late a revocation at the issuer may be noticed here; at most 60.",
                        validators=[django.core.validators.MaxValueValidator(60)],
                        verbose_name="answers are believed for (seconds)",
                    ),
                ),
                ("version", models.UUIDField(default=uuid.uuid4, editable=False)),
            ],
            options={
                "verbose_name": "rule for callers",
                "verbose_name_plural": "rules for callers",
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("audience", ""), _negated=True),
                        fields=("issuer", "audience"),
                        name="one_server_for_each_audience",
                    )
                ],
            },
        ),
    ]
