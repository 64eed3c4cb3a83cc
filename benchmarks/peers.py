r"""Gateways of others, installed by name and started as they come, for `benchmarks.gateway --other`. P2.

    python -m benchmarks.peers install FOLDER
    python -m benchmarks.gateway --connections 1,16 \
        --other 'python -m benchmarks.peers contextforge FOLDER {upstream} {port}' \
        --other 'python -m benchmarks.peers fastmcp FOLDER {upstream} {port}' \
        --other 'python -m benchmarks.peers litellm FOLDER {upstream} {port}'

Each has a virtual environment of its own in FOLDER, outside of the repository. One that is started prints what
`benchmarks.gateway` wants to know, with its version in the name, and serves until it is told to stop. ContextForge on
SQLite with its caches in memory, without rate limits and plugins; FastMCP's `create_proxy`, stateless, JSON answers,
no authentication; LiteLLM with its master key. All log errors only.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

_PACKAGES: Final = {
    "contextforge": ["mcp-contextforge-gateway"],
    "fastmcp": ["fastmcp", "uvicorn[standard]"],
    "litellm": ["litellm[proxy]"],
}
_FASTMCP: Final = """
import sys
import uvicorn
from fastmcp.server import create_proxy
app = create_proxy(sys.argv[1], name="peer").http_app(path="/mcp", stateless_http=True, json_response=True)
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", access_log=False)
"""
_READY_SECONDS: Final = 180.0


def main() -> None:
    """Install all, or serve one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["install", *_PACKAGES])
    parser.add_argument("folder", type=Path)
    parser.add_argument("upstream", nargs="?", default="")
    parser.add_argument("port", nargs="?", type=int, default=0)
    options = parser.parse_args()
    if options.what == "install":
        _install(options.folder)
        return
    with tempfile.TemporaryDirectory(prefix="peer-") as scratch:
        _serve(options.what, options.folder.resolve() / options.what / "bin", options.upstream, options.port, scratch)


def _install(folder: Path) -> None:
    for name, packages in _PACKAGES.items():
        print(f"Installing {name} …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder / name], check=True)
        subprocess.run([folder / name / "bin/pip", "install", "-q", *packages], check=True)


def _serve(name: str, programs: Path, upstream: str, port: int, scratch: str) -> None:
    key = f"sk-{secrets.token_hex(20)}"
    command, variables, path = _started_as(name, programs, upstream, port, scratch, key)
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": scratch, **variables}
    with (Path(scratch) / "log").open("w") as log, subprocess.Popen(
        command, cwd=scratch, env=environment, stdout=log, stderr=log, start_new_session=True
    ) as process:  # fmt: skip
        signal.signal(signal.SIGTERM, lambda *_: os.killpg(process.pid, signal.SIGTERM))
        base = f"http://127.0.0.1:{port}"
        _wait_for(base + path, process)
        target: dict[str, Any] = {"url": f"{base}/mcp", "headers": {"Authorization": f"Bearer {key}"}}
        if name == "contextforge":
            target = _behind_contextforge(base, upstream, programs, environment)
        elif name == "litellm":
            target["tool"] = "stub-echo"
        print(json.dumps({"name": f"{name} {_version(name, programs)}", "pids": [process.pid], **target}), flush=True)


def _started_as(
    name: str, programs: Path, upstream: str, port: int, scratch: str, key: str
) -> tuple[Sequence[str], Mapping[str, str], str]:
    """Return command, variables, and a path that answers once it is ready."""
    if name == "fastmcp":
        return [str(programs / "python"), "-c", _FASTMCP, upstream, str(port)], {}, "/mcp"
    if name == "litellm":
        server = {"url": upstream, "transport": "http", "allow_all_keys": True, "available_on_public_internet": True}
        settings = {"mcp_servers": {"stub": server}, "general_settings": {"master_key": key}}
        written = Path(scratch) / "config.yaml"
        written.write_text(json.dumps(settings))  # JSON is YAML
        command = [
            "litellm",
            "--config",
            str(written),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--telemetry",
            "False",
        ]
        variables = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        return [str(programs / command[0]), *command[1:]], variables, "/mcp"
    variables = {
        "DATABASE_URL": f"sqlite:///{scratch}/mcp.db", "CACHE_TYPE": "memory", "ENVIRONMENT": "development",
        "JWT_SECRET_KEY": key, "AUTH_ENCRYPTION_SECRET": key, "PLATFORM_ADMIN_EMAIL": "admin@example.com",
        "PLATFORM_ADMIN_PASSWORD": f"{key}!aZ9", "BASIC_AUTH_PASSWORD": key, "DEFAULT_USER_PASSWORD": f"{key}!aZ9",
        "SSRF_PROTECTION_ENABLED": "false", "SSRF_ALLOW_LOCALHOST": "true", "LOG_LEVEL": "ERROR",
        "RATE_LIMITING_ENABLED": "false", "PLUGINS_ENABLED": "false",
    }  # fmt: skip
    served = ["mcpgateway.main:app", "--host", "127.0.0.1", "--port", str(port)]
    return [str(programs / "uvicorn"), *served, "--no-access-log", "--log-level", "error"], variables, "/health"


def _behind_contextforge(base: str, upstream: str, programs: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """Enter the upstream in ContextForge as a gateway of a virtual server."""
    made = subprocess.run(
        [programs / "python", "-m", "mcpgateway.utils.create_jwt_token", "--username", "admin@example.com", "--exp",
         "600", "--admin", "--secret", environment["JWT_SECRET_KEY"]],
        env=environment, cwd=environment["HOME"], capture_output=True, text=True, check=True,
    )  # fmt: skip
    token = made.stdout.strip().splitlines()[-1]
    _ask(f"{base}/gateways", token, {"name": "stub", "url": upstream, "transport": "STREAMABLEHTTP"})
    tools = [tool["id"] for tool in _ask(f"{base}/tools", token)]
    _ask(f"{base}/servers", token, {"server": {"name": "vs", "description": "x", "associated_tools": tools}})
    (server,) = _ask(f"{base}/servers", token)
    headers = {"Authorization": f"Bearer {token}"}
    return {"url": f"{base}/servers/{server['id']}/mcp", "headers": headers, "tool": "stub-echo"}


def _ask(url: str, token: str, body: object = None) -> Any:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _READY_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise SystemExit(f"it does not answer: {url}")


def _version(name: str, programs: Path) -> str:
    package = _PACKAGES[name][0].partition("[")[0]
    program = f"import importlib.metadata as m; print(m.version('{package}'))"
    return subprocess.run(
        [programs / "python", "-c", program], capture_output=True, text=True, check=True
    ).stdout.strip()


if __name__ == "__main__":
    main()
