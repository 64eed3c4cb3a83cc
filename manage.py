#!/usr/bin/env python3
"""Run a management command; `manage.py up` starts everything, `manage.py demo` shows it."""

from __future__ import annotations

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import InterfaceError, OperationalError, ProgrammingError

# The demonstration lives on this machine alone, so it brings its own laptop settings.
_DEMO_DEFAULTS = {"DEBUG": "true", "EGRESS_ALLOW": "localhost,127.0.0.1"}
# After Ctrl-C, as shells have it.
_STOPPED = 130


def main() -> None:
    """Load the settings first, so that a wrong one ends in one sentence instead of a traceback, as all else does."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mcp_oauth_site.settings")
    if sys.argv[1:2] == ["demo"]:
        for name, value in _DEMO_DEFAULTS.items():
            os.environ.setdefault(name, value)
    try:
        from django.conf import settings

        settings.is_overridden("DEBUG")
        execute_from_command_line(sys.argv)
        print(end="", flush=True)
    except ImproperlyConfigured as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(_STOPPED)
    except (OperationalError, ProgrammingError, InterfaceError, OSError) as error:  # what else is refused is our fault
        if "--traceback" in sys.argv:
            raise
        if isinstance(error, OSError):  # a closed pipe or a full disk under our output, a file or a folder
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left of the output goes nowhere
            sys.exit(f"error: {error}")
        said = str(error).partition("\n")[0]
        sys.exit(f"error: DATABASE_URL names a database that cannot be used or was not prepared: {said}")


if __name__ == "__main__":
    main()
