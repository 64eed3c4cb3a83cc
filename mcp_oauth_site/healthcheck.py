"""Ask the process of this container whether it is well: `python -m mcp_oauth_site.healthcheck`.

Asks the port of METRICS_PORT where that is set, else 8000, for `/healthz`, and ends with 0 or 1.
"""

from __future__ import annotations

import http.client
import os
import sys
from urllib.parse import urlsplit

_SECONDS = 4


def is_well() -> bool:
    """Say whether `/healthz` answers 200 to the name that the site answers to."""
    port = int(os.environ.get("METRICS_PORT") or 8000)
    host = (os.environ.get("ALLOWED_HOSTS") or "").partition(",")[0].strip(" *.")
    host = host or urlsplit(os.environ.get("PUBLIC_URL") or "").netloc or "localhost"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.request("GET", "/healthz", headers={"Host": host})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_well() else 1)
