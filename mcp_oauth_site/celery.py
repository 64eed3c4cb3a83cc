"""The Celery application. `celery -A mcp_oauth_site.celery worker`, or simply `manage.py up`."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, signals
from django.conf import settings

from audit.correlation import begin_correlation

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mcp_oauth_site.settings")

app = Celery("mcp_oauth_site")
app.conf.update(settings.CELERY)
app.autodiscover_tasks()


@signals.setup_logging.connect
def keep_site_logging(**kwargs: Any) -> None:
    """Having a receiver stops Celery from replacing the log handlers of settings."""


@signals.task_prerun.connect
def begin_task_correlation(task_id: str = "", **kwargs: Any) -> None:
    """Let the log lines and audit records of one task share its id."""
    begin_correlation(task_id)
