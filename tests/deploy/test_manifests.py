"""The files in deploy/ name what the site really has: settings, commands, ports, addresses; and hold no secret."""

from __future__ import annotations

import configparser
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands, load_command_class
from django.urls import resolve

from mcp_oauth_site.env import Environment
from mcp_oauth_site.keys import load_keys
from mcp_oauth_site.management.commands.up import WORKER_STOP_SECONDS
from mcp_oauth_site.startup import first_administrator_link

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
WORKLOADS = ("Deployment", "Job")
SECRET_SETTINGS = {
    "SECRET_KEY", "FIELD_ENCRYPTION_KEY", "SIGNING_KEYS", "AUDIT_KEYS", "METRICS_TOKEN", "DATABASE_URL", "REDIS_URL",
}  # fmt: skip
NOT_OURS = {"PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PATH"}
LISTENER_ADDRESSES = {"/healthz", "/metrics"}


def _settings_read() -> set[str]:
    """Names of environment variables that settings and keys read."""
    text = (ROOT / "mcp_oauth_site" / "settings.py").read_text() + (ROOT / "mcp_oauth_site" / "keys.py").read_text()
    return set(re.findall(r'(?:environment\.\w+|value)\(\s*"([A-Z_]+)"', text)) | {"OTEL_EXPORTER_OTLP_ENDPOINT"}


def _documents() -> list[tuple[str, dict[str, Any]]]:
    return [
        (path.name, document)
        for path in sorted(KUBERNETES.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
    ]


def _of_kind(*kinds: str) -> list[dict[str, Any]]:
    return [document for _, document in _documents() if document["kind"] in kinds]


def _compose() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return parsed


def _containers() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for workload in _of_kind(*WORKLOADS):
        spec = workload["spec"]["template"]["spec"]
        for container in spec["containers"]:
            yield workload["metadata"]["name"], spec, container


def _environment_of(container: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container["env"]}


def _parsed(arguments: list[str]) -> Any:
    """Command-line arguments as the command itself reads them; a word that it does not know ends the test."""
    command = load_command_class(get_commands()[arguments[0]], arguments[0])
    return command.create_parser("manage.py", arguments[0]).parse_args(arguments[1:])


def test_every_manifest_is_listed_and_has_a_name() -> None:
    listed = set(yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"])
    files = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml", "secret.example.yaml"}
    assert listed == files
    names = [(document["kind"], document["metadata"]["name"]) for name, document in _documents() if name in files]
    assert len(names) == len(set(names))


def test_manifests_name_only_settings_that_exist() -> None:
    known = {name + ending for name in _settings_read() for ending in ("", "_FILE")} | NOT_OURS
    named = set(_of_kind("ConfigMap")[0]["data"])
    for _, _, container in _containers():
        named |= set(_environment_of(container))
    for service in ("web", "worker", "beat"):
        named |= set(_compose()["services"][service]["environment"])
    named |= set(re.findall(r"^Environment=(\w+)=", (DEPLOY / "systemd/mcp-oauth-site.service").read_text(), re.M))
    named |= set(re.findall(r"(\w+)=", re.search(r"^ENV (.*)$", (DEPLOY / "Containerfile").read_text(), re.M)[1]))
    assert named - known == set()
    assert {f"{name}_FILE" for name in SECRET_SETTINGS} <= named


@pytest.mark.parametrize(("name", "spec", "container"), [pytest.param(*one, id=one[0]) for one in _containers()])
def test_pods_have_no_right_that_they_do_not_need(name: str, spec: dict[str, Any], container: dict[str, Any]) -> None:
    pod, own = spec["securityContext"], container["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] > 10_000
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert own == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
    assert "memory" in container["resources"]["limits"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}


@pytest.mark.parametrize(("name", "spec", "container"), [pytest.param(*one, id=one[0]) for one in _containers()])
def test_pods_start_commands_that_exist_and_probe_addresses_that_answer(
    name: str, spec: dict[str, Any], container: dict[str, Any]
) -> None:
    options = _parsed(container["args"])
    if name == "migrate":
        return
    assert options.only == name
    port = container["ports"][0]
    assert port["containerPort"] == (options.port if name == "web" else int(_environment_of(container)["METRICS_PORT"]))
    public_url = _of_kind("ConfigMap")[0]["data"]["PUBLIC_URL"]
    for kind in ("startupProbe", "livenessProbe", *(["readinessProbe"] if name == "web" else [])):
        asked = container[kind]["httpGet"]
        assert asked["port"] == port["name"]
        if name == "web":
            resolve(asked["path"])
            assert f"https://{asked['httpHeaders'][0]['value']}" == public_url
        else:
            assert asked["path"] in LISTENER_ADDRESSES
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"


def test_services_budgets_and_the_ingress_find_what_they_name() -> None:
    labels = [workload["spec"]["template"]["metadata"]["labels"] for workload in _of_kind("Deployment")]
    service = _of_kind("Service")[0]
    assert service["spec"]["selector"] in labels
    ports = {port["name"] for _, _, container in _containers() for port in container.get("ports", [])}
    assert service["spec"]["ports"][0]["targetPort"] in ports
    for owner in _of_kind("Deployment", "PodDisruptionBudget"):
        assert owner["spec"]["selector"]["matchLabels"] in labels
    backend = _of_kind("Ingress")[0]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert (backend["name"], backend["port"]["name"]) == ("web", service["spec"]["ports"][0]["name"])
    replicas = {workload["metadata"]["name"]: workload["spec"]["replicas"] for workload in _of_kind("Deployment")}
    assert replicas == {"web": 2, "worker": 2, "beat": 1}


def test_secrets_come_from_files_and_the_template_has_none() -> None:
    template = _of_kind("Secret")[0]
    assert template["stringData"] == dict.fromkeys(SECRET_SETTINGS, "")
    for _, spec, container in _containers():
        mounted = next(mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "secrets")
        environment = _environment_of(container)
        assert environment.keys().isdisjoint(SECRET_SETTINGS)
        assert {environment[f"{name}_FILE"] for name in SECRET_SETTINGS} == {f"{mounted}/{n}" for n in SECRET_SETTINGS}
        named = next(volume["secret"]["secretName"] for volume in spec["volumes"] if volume["name"] == "secrets")
        assert named == template["metadata"]["name"]


def test_no_file_holds_anything_that_looks_like_a_key() -> None:
    looks_random = re.compile(r"(?=[\w-]*[a-z])(?=[\w-]*[A-Z])(?=[\w-]*\d)[\w-]{20,}")
    for path in DEPLOY.rglob("*"):
        if path.is_file() and "secrets" not in path.relative_to(DEPLOY).parts:
            assert looks_random.findall(path.read_text()) == [], path.name
            assert not re.search(r"(?i)(password|token|secret)\s*[:=]\s*['\"]?[a-z0-9]{8,}", path.read_text()), (
                path.name
            )


def test_images_are_named_by_digest_or_by_a_tag_that_does_not_move_far() -> None:
    images = [service["image"] for service in _compose()["services"].values()]
    images += re.findall(r"^ARG BASE=(\S+)", (DEPLOY / "Containerfile").read_text(), re.M)
    transformed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["images"][0]
    images += [f"{transformed['name']}:{transformed['newTag']}"]
    for image in images:
        assert re.fullmatch(r"[a-z-]+:[\w.-]+(@sha256:[0-9a-f]{64})?", image), image
        assert not image.endswith(":latest")
    assert {container["image"] for _, _, container in _containers()} == {transformed["name"]}


def test_compose_runs_every_role_without_rights_and_with_secrets_from_files() -> None:
    compose = _compose()
    for role, replicas in {"web": 2, "worker": 2, "beat": None}.items():
        service = compose["services"][role]
        assert _parsed(service["command"]).only == role
        assert (service["read_only"], service["user"], service["cap_drop"]) == (True, "10001:10001", ["ALL"])
        assert service.get("deploy", {}).get("replicas") == replicas
        files = {value for name, value in service["environment"].items() if name.endswith("_FILE")}
        assert files == {f"/run/secrets/{name}" for name in service["secrets"]}
        assert service["environment"].keys().isdisjoint(SECRET_SETTINGS)
    assert all("file" in secret for secret in compose["secrets"].values())
    used = {name for service in compose["services"].values() for name in service["secrets"]}
    assert used == compose["secrets"].keys()


@pytest.mark.django_db
def test_what_compose_says_to_look_for_in_the_log_stands_in_the_line_of_the_link() -> None:
    (wanted,) = re.findall(r"logs web \| grep (\S+)", (DEPLOY / "compose.yaml").read_text())
    assert wanted in first_administrator_link()


def test_the_container_runs_as_nobody_in_particular_and_installs_what_was_locked() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    assert re.search(r"^USER 10001:10001$", text, re.M)
    assert text.count("--require-hashes") == text.count("pip install") == 2
    assert re.search(r"^HEALTHCHECK .*mcp_oauth_site\.healthcheck", text, re.M)
    command = re.search(r"^CMD (\[.*\])$", text, re.M)
    assert command
    assert _parsed(yaml.safe_load(command[1])).only == "web"
    copied = re.findall(r"^COPY (?!--from)(\S+)", text, re.M)
    assert all((ROOT / name).exists() for name in copied)


def test_the_systemd_unit_gives_every_secret_as_a_credential() -> None:
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",))
    text = (DEPLOY / "systemd/mcp-oauth-site.service").read_text()
    parser.read_string(text)
    service = parser["Service"]
    assert _parsed(service["ExecStart"].split("manage.py ")[1].split()).only is None
    assert (service["NoNewPrivileges"], service["ProtectSystem"], service["User"]) == (
        "true",
        "strict",
        "mcp-oauth-site",
    )
    given = set(re.findall(r"^LoadCredential=(\w+):", text, re.M))
    used = set(re.findall(r"^Environment=[A-Z_]+_FILE=%d/(\w+)$", text, re.M))
    assert given == used == {name.lower() for name in SECRET_SETTINGS}


def test_new_secrets_makes_a_set_that_starts_the_site_and_overwrites_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    program = [str(DEPLOY / "new-secrets"), str(folder)]
    environment = {"PATH": os.environ["PATH"], "PYTHON": sys.executable}
    subprocess.run(program, check=True, env=environment, capture_output=True)
    files = {path.name: path for path in folder.iterdir()}
    assert files.keys() == _compose()["secrets"].keys()
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o600}
    variables = Environment({f"{name}_FILE": str(files[name.lower()]) for name in SECRET_SETTINGS})
    load_keys(variables, data_dir=tmp_path, debug=False)
    assert variables.bearer_token("METRICS_TOKEN")
    assert variables.database("DATABASE_URL", sqlite_file=tmp_path)["HOST"] == "postgresql"
    assert variables.redis_url("REDIS_URL").endswith("@redis:6379/0")
    again = subprocess.run(program, check=False, env=environment, capture_output=True)
    assert again.returncode == 1


def test_whatever_stops_a_worker_gives_it_the_time_that_up_gives_it() -> None:
    (worker,) = [found for found in _of_kind("Deployment") if found["metadata"]["name"] == "worker"]
    assert worker["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > WORKER_STOP_SECONDS
    assert int(_compose()["services"]["worker"]["stop_grace_period"].removesuffix("s")) > WORKER_STOP_SECONDS
    for text in ((DEPLOY / "systemd" / "mcp-oauth-site.service").read_text(), (ROOT / "docs/operators.md").read_text()):
        (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
        assert int(seconds) > WORKER_STOP_SECONDS
        assert "\nKillMode=mixed\n" in text


def test_a_web_pod_answers_until_no_service_sends_it_requests_any_more() -> None:
    (web,) = [found for found in _of_kind("Deployment") if found["metadata"]["name"] == "web"]
    spec = web["spec"]["template"]["spec"]
    word, seconds = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert (word, int(seconds) >= 5) == ("sleep", True)
    # `up` gives its processes ten seconds, and has to come to that.
    assert spec["terminationGracePeriodSeconds"] >= int(seconds) + 15
