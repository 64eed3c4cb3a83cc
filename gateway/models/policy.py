"""What an administrator allows behind the gateway: for a server, and for groups of people at a server."""

from __future__ import annotations

from typing import Final

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from connections.models import McpServer

MOST_REQUEST_BYTES: Final = 1024 * 1024
"""A larger request is refused whatever a policy says. Security notes G10."""
MOST_RESPONSE_BYTES: Final = 10 * 1024 * 1024
"""A larger answer is cut off whatever a policy says. Security notes G16."""
_MOST_PATTERNS: Final = 500
_MOST_CHARACTERS: Final = 128


def validate_patterns(value: str) -> None:
    """Take names of tools, one a line, each with at most one `*`, at its end."""
    patterns = value.split()
    if len(patterns) > _MOST_PATTERNS:
        raise ValidationError(f"These are more than {_MOST_PATTERNS} names.")
    for pattern in patterns:
        if "*" in pattern[:-1] or len(pattern) > _MOST_CHARACTERS:
            raise ValidationError(f"“{pattern[:_MOST_CHARACTERS]}” is no name of a tool. A * stands at the end only.")


class Rule(models.Model):
    """Which tools, and how much. What is empty is as it would be without this rule."""

    class Tools(models.TextChoices):
        INHERITED = "", "Not decided here"
        ALL = "all", "All tools"
        ALLOWED = "allowed", "Only the tools below"
        DENIED = "denied", "All but the tools below"

    tools = models.CharField(max_length=8, choices=Tools.choices, blank=True, default="")
    tool_patterns = models.TextField(
        "tool names",
        blank=True,
        validators=[validate_patterns],
        help_text="One a line; a * at the end stands for anything: search, read_*.",
    )
    calls_per_minute = models.PositiveIntegerField(
        "requests a minute",
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(1_000_000)],
        help_text="Of one person. So many at once, and then so many in each minute.",
    )
    request_bytes = models.PositiveIntegerField(
        "bytes of a request",
        null=True,
        blank=True,
        validators=[MinValueValidator(1024), MaxValueValidator(MOST_REQUEST_BYTES)],
    )
    response_bytes = models.PositiveIntegerField(
        "bytes of an answer",
        null=True,
        blank=True,
        validators=[MinValueValidator(1024), MaxValueValidator(MOST_RESPONSE_BYTES)],
    )
    open_streams = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(1000)],
        help_text="Of one person at the same time, in each process of the gateway.",
    )

    class Meta:
        abstract = True

    def clean(self) -> None:
        """Refuse a list that does not say what it is for, and the other way round."""
        needs_names = self.tools in (self.Tools.ALLOWED, self.Tools.DENIED)
        if self.tool_patterns.split() and not needs_names:
            raise ValidationError({"tools": "Say whether the tools below are allowed or denied."})
        if needs_names and not self.tool_patterns.split():
            raise ValidationError({"tool_patterns": "Name at least one tool."})


class ServerPolicy(Rule):
    """What holds at one server for everybody whose groups have no rule of their own there."""

    class Approval(models.TextChoices):
        FIRST_SEEN = "first_seen", "A tool is approved when it is first seen"
        ADMINISTRATOR = "administrator", "An administrator approves each tool before its use"

    server = models.OneToOneField(McpServer, models.CASCADE, primary_key=True, related_name="gateway_policy")
    approval = models.CharField("new tools", max_length=13, choices=Approval.choices, default=Approval.FIRST_SEEN)
    blocks_changed = models.BooleanField(
        "block changed tools",
        default=False,
        help_text="Hide a tool whose description or parameters changed, and refuse to call it, until it is approved.",
    )
    keeps_arguments = models.BooleanField(
        "keep the arguments of calls",
        default=False,
        help_text="They are other people's data: kept for a short time, secrets masked, at most 4 KiB of each call. "
        "Switching this on or off is recorded.",
    )

    class Meta:
        verbose_name = "gateway policy"
        verbose_name_plural = "gateway policies"

    def __str__(self) -> str:
        return self.server.name


class GroupPolicy(Rule):
    """What holds at one server for the people of a group, instead of what holds for everybody."""

    policy = models.ForeignKey(ServerPolicy, models.CASCADE, related_name="groups")
    group = models.ForeignKey("auth.Group", models.CASCADE, related_name="+")

    class Meta:
        ordering = ("policy", "group")
        verbose_name = "rule for a group"
        verbose_name_plural = "rules for groups"
        constraints = (models.UniqueConstraint(fields=("policy", "group"), name="gateway_one_rule_of_a_group"),)

    def __str__(self) -> str:
        return f"{self.group} at {self.policy}"


class PolicyVersion(models.Model):
    """A counter that every change of a policy or of an approval increases; whoever knows it knows the rest. One row."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    number = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return f"version {self.number}"
