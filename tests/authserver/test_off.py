"""Without its line in the settings the site is no authorization server, and everything else works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import sys
from django.conf import settings
from mcp_oauth_site import settings as site
names = {name: getattr(site, name) for name in dir(site) if name.isupper()}
names["INSTALLED_APPS"] = [app for app in site.INSTALLED_APPS if app not in ("authserver", "gateway")]
rest = dict(site.REST_FRAMEWORK)
rest["DEFAULT_AUTHENTICATION_CLASSES"] = [
    one for one in rest["DEFAULT_AUTHENTICATION_CLASSES"] if not one.startswith("authserver")
]
settings.configure(**names | {"REST_FRAMEWORK": rest})
import django
django.setup()
from django.core.management import call_command
from django.urls import Resolver404, resolve
call_command("check")
from mcp_oauth_site.celery import app
from mcp_oauth_site.root import build_application
build_application()
for name in ("token", "jwks", "introspect", "revoke", "authorize", "register"):
    try:
        sys.exit(f"{name} is {resolve(f'/oauth/{name}')}")
    except Resolver404:
        pass
assert not [entry for entry in app.conf.beat_schedule.values() if entry["task"].startswith("authserver")]
print("off:", "authserver.models" in sys.modules)
"""


def test_the_app_is_off_by_one_line(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    finished = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        cwd=Path(__file__).parents[2],
        env={**environment, "DATA_DIR": str(tmp_path), "DEBUG": "true", "DATABASE_URL": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert "off: False" in finished.stdout
