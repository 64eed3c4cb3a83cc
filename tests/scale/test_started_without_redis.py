"""A site that starts while its Redis is away serves and renews, and uses Redis once it is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_oauth_site.broker import HEARTBEAT_TASK
from tests.faults import fault

from .site import ask, eventually, running_on_sqlite
from .test_several_processes import BEAT_KEY

pytestmark = pytest.mark.scale
IMPATIENT = {"DJANGO_SETTINGS_MODULE": "tests.scale.impatient"}


@fault("F05")
def test_what_is_due_is_renewed_and_released_before_anybody_has_reached_redis(tmp_path: Path) -> None:
    with running_on_sqlite(tmp_path, redis_is_away=True, **IMPATIENT) as site:
        (web,) = site.webs
        ready = ask(f"{web}/readyz")
        assert (ready.status, ready.body["parts"]["broker"], ready.body["parts"]["cache"]) == (
            200, "degraded", "degraded",
        )  # fmt: skip
        token, (connection,) = site.seed("away", due=True)
        eventually(lambda: site.upstream.seen["refresh-away-0"] > 0, seconds=10)
        release = ask(f"{web}/api/v1/connections/{connection}/token", method="POST", token=token, body={})
        assert release.status == 200
        assert "starting without it" in site.logs["all"].read_text()

        site.redis.start()
        site.send_tasks(HEARTBEAT_TASK)
        eventually(lambda: site.redis.client().get(BEAT_KEY) is not None, seconds=20)
        eventually(lambda: ask(f"{web}/readyz").body["status"] == "ok", seconds=20)
        assert site.upstream.seen["refresh-away-0"] == 1
        assert "process ended" not in site.logs["all"].read_text()
