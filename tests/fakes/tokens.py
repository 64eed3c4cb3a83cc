"""A signed-looking JWT of a platform; nobody here checks its signature."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta


def platform_jwt(*, now: datetime, seconds: int = 600, **claims: object) -> str:
    said = {"iss": "https://platform.example", "exp": int((now + timedelta(seconds=seconds)).timestamp()), **claims}
    parts = [json.dumps({"alg": "RS256"}), json.dumps(said), "signature"]
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)
