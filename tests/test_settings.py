"""A wrong setting stops the start with one sentence that names the variable; a right one means what it says."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from mcp_oauth_site.env import Environment
from mcp_oauth_site.keys import KEYS_FILE, load_keys, new_keys, prepare_data_dir
from mcp_oauth_site.mail_settings import mail_settings
from mcp_oauth_site.observability.span_settings import spans_endpoint

ROOT = Path(__file__).parent.parent
ZEROS = base64.urlsafe_b64encode(bytes(32)).decode()
# Made once from a fixed text: several processes have to collect the same tests.
GOOD_KEY = base64.urlsafe_b64encode(hashlib.sha256(b"a key of the tests").digest()).decode()
CUT_SHORT = GOOD_KEY[:-5]
TYPED = base64.urlsafe_b64encode(b"this is my very secret key 12345").decode()


def _production(**changed: str) -> dict[str, str]:
    return {**new_keys().as_variables(), "PUBLIC_URL": "https://mcp.example.com", **changed}


def _start(variables: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "DATA_DIR": str(folder / "data"), **variables}
    program = [sys.executable, *(arguments or ("manage.py", "check"))]
    return subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", ""),
        ("SECRET_KEY", "short"),
        ("SECRET_KEY", "django-insecure-" + "k3Jd92mNfQ8sLp0xZv7bTy5cRw1aUe6gHi4oPq"),
        ("SECRET_KEY", "change-me-k3Jd92mNfQ8sLp0xZv7bTy5cRw1aUe6gHi4oPq"),
        ("SECRET_KEY", "a" * 64),
        ("SECRET_KEY", "0123456789abcdef" * 4),
        ("FIELD_ENCRYPTION_KEY", ""),
        ("FIELD_ENCRYPTION_KEY", "not a key"),
        ("FIELD_ENCRYPTION_KEY", ZEROS),
        ("FIELD_ENCRYPTION_KEY", TYPED),
        ("FIELD_ENCRYPTION_KEY", f"{CUT_SHORT},{GOOD_KEY}"),
        ("FIELD_ENCRYPTION_KEY", f"{GOOD_KEY},{CUT_SHORT}"),
        ("AUDIT_KEYS", ""),
        ("AUDIT_KEYS", ZEROS),
        ("SIGNING_KEYS", ""),
        ("SIGNING_KEYS", "[]"),
        ("SIGNING_KEYS", '[{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]'),
        ("SIGNING_KEYS", '[{"kty": "RSA"}]'),
    ],
)
def test_a_missing_or_weak_key_is_refused_by_name(name: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"^{name} ") as refused:
        load_keys(Environment(_production(**{name: value})), data_dir=tmp_path, debug=False)
    assert not value or value not in str(refused.value)


@pytest.mark.parametrize("other", ["SECRET_KEY", "AUDIT_KEYS"])
def test_one_key_for_two_purposes_is_refused(other: str, tmp_path: Path) -> None:
    variables = _production()
    variables[other] = variables["FIELD_ENCRYPTION_KEY"]
    with pytest.raises(ImproperlyConfigured, match="must not be the same as"):
        load_keys(Environment(variables), data_dir=tmp_path, debug=False)


def test_a_fresh_set_of_keys_is_accepted(tmp_path: Path) -> None:
    keys = load_keys(Environment(_production()), data_dir=tmp_path, debug=False)
    assert [key["crv"] for key in keys.signing_keys] == ["P-256"]
    assert keys.signing_keys[0]["kid"]
    assert list(tmp_path.iterdir()) == []


def test_a_laptop_gets_private_keys_once(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first = load_keys(Environment({}), data_dir=folder, debug=True)
    again = load_keys(Environment({}), data_dir=folder, debug=True)
    assert first.as_variables() == again.as_variables()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / KEYS_FILE).stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == [KEYS_FILE]


def test_unreadable_kept_keys_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / KEYS_FILE).write_text("{")
    with pytest.raises(ImproperlyConfigured, match="^DATA_DIR "):
        load_keys(Environment({}), data_dir=tmp_path, debug=True)
    assert (tmp_path / KEYS_FILE).read_text() == "{"


def test_kept_keys_are_not_used_in_production(tmp_path: Path) -> None:
    load_keys(Environment({}), data_dir=tmp_path, debug=True)
    with pytest.raises(ImproperlyConfigured, match="^SECRET_KEY is not set"):
        load_keys(Environment({}), data_dir=tmp_path, debug=False)


def test_a_data_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ImproperlyConfigured, match="^DATA_DIR "):
        prepare_data_dir(tmp_path)


def test_the_database_file_is_private(tmp_path: Path) -> None:
    prepare_data_dir(tmp_path, files=("site.sqlite3",))
    assert stat.S_IMODE((tmp_path / "site.sqlite3").stat().st_mode) == 0o600


@pytest.mark.parametrize("word", ["ture", "2", "None", "enabled"])
def test_an_unknown_truth_word_is_refused(word: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="^DEBUG must be true or false"):
        Environment({"DEBUG": word}).flag("DEBUG")


@pytest.mark.parametrize(("word", "meaning"), [("TRUE", True), ("on", True), ("0", False), ("No", False), ("", False)])
def test_known_truth_words_are_read(word: str, meaning: bool) -> None:
    assert Environment({"DEBUG": word}).flag("DEBUG") is meaning


@pytest.mark.parametrize(
    "address",
    [
        "ftp://a.example", "a.example", "https://", "https://user@a.example", "https://a.example/path",
        "https://a.example?x=1", "https://a.example#x", "https://a b.example", "https://a.example:99999", "//a.example",
        "https://a.example\\@b.example",
    ],
)  # fmt: skip
def test_a_public_url_with_more_than_an_origin_is_refused(address: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="^PUBLIC_URL "):
        Environment({"PUBLIC_URL": address}).origin("PUBLIC_URL", default="")


@pytest.mark.parametrize(
    ("address", "canonical"),
    [
        ("https://MCP.example.com/", "https://mcp.example.com"),
        ("https://mcp.example.com:443", "https://mcp.example.com"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_a_public_url_is_brought_into_one_form(address: str, canonical: str) -> None:
    assert Environment({"PUBLIC_URL": address}).origin("PUBLIC_URL", default="") == canonical


@pytest.mark.parametrize("origins", ["*", "null", "https://a.example, *", "a.example"])
def test_cross_origin_access_is_given_to_exact_origins_only(origins: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="^CORS_ALLOWED_ORIGINS "):
        Environment({"CORS_ALLOWED_ORIGINS": origins}).origins("CORS_ALLOWED_ORIGINS")


@pytest.mark.parametrize("listed", ["*", "http://a.example", "a.example:0", "a.example:x", "10.0.0.0/99"])
def test_an_unreadable_egress_allowance_is_refused(listed: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="^EGRESS_ALLOW "):
        Environment({"EGRESS_ALLOW": listed}).egress_allow("EGRESS_ALLOW")


def test_egress_allowances_are_hosts_ports_and_networks() -> None:
    listed = "localhost, 127.0.0.1, mcp.internal:8443, 10.1.0.0/16, [::1]:9000"
    assert len(Environment({"EGRESS_ALLOW": listed}).egress_allow("EGRESS_ALLOW")) == 5


def test_a_postgresql_address_becomes_a_pooled_database(tmp_path: Path) -> None:
    address = "postgresql://us%40er:p%2Fw@db.example:6432/site?sslmode=verify-full"
    found = Environment({"DATABASE_URL": address}).database("DATABASE_URL", sqlite_file=tmp_path / "x")
    assert (found["USER"], found["PASSWORD"], found["HOST"], found["PORT"]) == ("us@er", "p/w", "db.example", "6432")
    assert found["OPTIONS"]["sslmode"] == "verify-full"
    assert found["OPTIONS"]["pool"]["max_size"] == 8
    assert 0 < found["OPTIONS"]["pool"]["reconnect_timeout"] <= 5
    assert 0 < found["OPTIONS"]["tcp_user_timeout"] <= 30_000  # milliseconds
    assert 0 < found["OPTIONS"]["keepalives_idle"] <= 30
    assert found["OPTIONS"]["options"] == "-c idle_in_transaction_session_timeout=20s"
    assert (found["CONN_MAX_AGE"], found["ATOMIC_REQUESTS"]) == (0, False)


def test_a_postgresql_socket_folder_is_given_as_host(tmp_path: Path) -> None:
    address = "postgresql:///site?host=/run/postgresql&user=app"
    found = Environment({"DATABASE_URL": address}).database("DATABASE_URL", sqlite_file=tmp_path / "x")
    assert (found["HOST"], found["USER"], found["NAME"]) == ("/run/postgresql", "app", "site")


@pytest.mark.parametrize(
    "address", ["mysql://a/b", "postgresql://a.example", "postgresql://a/b?options=-c", "nonsense"]
)
def test_an_unreadable_database_address_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="^DATABASE_URL "):
        Environment({"DATABASE_URL": address}).database("DATABASE_URL", sqlite_file=tmp_path / "x")


@pytest.mark.parametrize("rest", ["a.example:99999/x", "a.example:secret/x", "[::1/x", ":secret#1@a.example/x"])
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("DATABASE_URL", lambda known, name: known.database(name, sqlite_file=Path("x"))),
        ("REDIS_URL", lambda known, name: known.redis_url(name)),
        ("CLIENT_METADATA_URL", lambda known, name: known.https_url(name, default="")),
        ("PUBLIC_URL", lambda known, name: known.origin(name, default="")),
        ("CORS_ALLOWED_ORIGINS", lambda known, name: known.origins(name)),
        ("EMAIL_URL", lambda known, name: mail_settings(known.text(name), public_host="a.example")),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", lambda known, name: spans_endpoint(known)),
    ],
)
def test_an_address_without_a_readable_host_or_port_is_refused_in_a_sentence_that_does_not_repeat_it(
    name: str, read: Callable[[Environment, str], object], rest: str
) -> None:
    scheme = {"DATABASE_URL": "postgresql", "REDIS_URL": "redis", "EMAIL_URL": "smtp"}.get(name, "https")
    with pytest.raises(ImproperlyConfigured, match=f"^{name} ") as refused:
        read(Environment({name: f"{scheme}://{rest}"}), name)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    [
        "http://a.example", "redis://a.example/x", "redis://a.example/0/1", "redis://a.example/0?socket_timeout=1",
        "redis://a.example/0#x", "rediss://a.example?db=1", "unix://", "unix://run/redis.sock", "unix:///run/r?port=1",
        "unix:///run/r?db=x",
    ],
)  # fmt: skip
def test_an_unreadable_redis_address_is_refused(address: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="^REDIS_URL "):
        Environment({"REDIS_URL": address}).redis_url("REDIS_URL")


@pytest.mark.parametrize(
    "address",
    [
        "", "redis://a.example", "redis://:p%40ss@a.example:6380/3", "redis://u:p@[::1]:6379/0",
        "rediss://a.example/0?ssl_cert_reqs=required&ssl_ca_certs=/etc/ca.pem", "unix:///run/redis.sock?db=2",
        "unix://:p@/run/redis.sock", "rediss://a.example/0?ssl_check_hostname=false",
    ],
)  # fmt: skip
def test_redis_addresses_are_handed_on_as_they_are(address: str) -> None:
    assert Environment({"REDIS_URL": address}).redis_url("REDIS_URL") == address


def test_sqlite_takes_the_write_lock_at_the_start_of_a_transaction(tmp_path: Path) -> None:
    found = Environment({"DATABASE_URL": f"sqlite:///{tmp_path}/a.db"}).database("DATABASE_URL", sqlite_file=tmp_path)
    assert found["NAME"] == f"{tmp_path}/a.db"
    assert found["OPTIONS"]["transaction_mode"] == "IMMEDIATE"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"SECRET_KEY": ""}, "SECRET_KEY"),
        ({"DEBUG": "true"}, "DEBUG"),
        ({"DEBUG": "ture"}, "DEBUG"),
        ({"PUBLIC_URL": "nonsense"}, "PUBLIC_URL"),
        ({"STDIO_SERVERS_ALLOWED": "maybe"}, "STDIO_SERVERS_ALLOWED"),
    ],
)
@pytest.mark.parametrize("entry", [("manage.py", "check"), ("-c", "import mcp_oauth_site.asgi")])
def test_a_refused_start_says_one_sentence(
    changed: dict[str, str], named: str, entry: tuple[str, ...], tmp_path: Path
) -> None:
    finished = _start(_production(**changed), tmp_path, *entry)
    assert finished.returncode == 1
    assert finished.stderr.startswith(f"error: {named} ")
    assert finished.stderr.count("\n") == 1


def test_a_production_start_passes_the_deployment_checks(tmp_path: Path) -> None:
    finished = _start(_production(), tmp_path, "manage.py", "check", "--deploy", "--fail-level", "WARNING")
    assert finished.returncode == 0, finished.stderr


def test_https_brings_host_bound_cookies_and_strict_transport(tmp_path: Path) -> None:
    wanted = [
        "SESSION_COOKIE_NAME",
        "CSRF_COOKIE_NAME",
        "SESSION_COOKIE_SECURE",
        "SECURE_HSTS_SECONDS",
        "ALLOWED_HOSTS",
    ]
    program = (
        f"import json; from mcp_oauth_site import settings as s; print(json.dumps([getattr(s, n) for n in {wanted}]))"
    )
    finished = _start(_production(), tmp_path, "-c", program)
    assert json.loads(finished.stdout) == [
        "__Host-sessionid", "__Host-csrftoken", True, 31536000, ["mcp.example.com"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "listed",
    [
        "file:/token", "file:/token=", "file:token=https://as.example", "env:9=https://as.example",
        "env:TOKEN=ftp://as.example", "env:TOKEN=https://a@as.example", "env:TOKEN=https://as.example/../x", "/token",
    ],
)  # fmt: skip
def test_a_source_of_assertions_without_a_usable_receiver_is_refused(listed: str) -> None:
    listed = f"env:GOOD=https://as.example,{listed}"
    with pytest.raises(ImproperlyConfigured, match="^ASSERTION_SOURCES "):
        Environment({"ASSERTION_SOURCES": listed}).assertion_sources("ASSERTION_SOURCES")


def test_sources_of_assertions_have_receivers() -> None:
    listed = "file:/run/a=b/token=https://as.example/tenant, env:TOKEN=https://as.example"
    assert Environment({"ASSERTION_SOURCES": listed}).assertion_sources("ASSERTION_SOURCES") == (
        ("file:/run/a=b/token", "https://as.example/tenant"), ("env:TOKEN", "https://as.example"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("command", "variables"),
    [
        (["audit_verify"], {}),
        (["audit_export"], {}),
        (["rotate_encryption_keys"], {}),
        (["connections"], {}),
        (["create_api_token", "anybody", "--scope", "tools:call"], {}),
        (["connections"], {"DATABASE_URL": "postgresql://site:hunter2@127.0.0.1:1/site"}),
    ],
)
def test_a_command_without_its_database_ends_in_one_sentence(
    command: list[str], variables: dict[str, str], tmp_path: Path
) -> None:
    ended = _start({"DEBUG": "true", **variables}, tmp_path, "manage.py", *command)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("error: DATABASE_URL names a database that cannot be used")
    assert "Traceback" not in ended.stderr
    assert "hunter2" not in ended.stderr


@pytest.mark.parametrize("is_unbuffered", ["", "1"])
def test_a_command_whose_output_cannot_be_written_ends_in_one_sentence(is_unbuffered: str, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path), "DEBUG": "true"}
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "manage.py", "showmigrations", "audit"],
            cwd=ROOT, env=environment | {"PYTHONUNBUFFERED": is_unbuffered},
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (1, "error: [Errno 28] No space left on device\n")


def test_ctrl_c_in_any_command_ends_in_one_word(tmp_path: Path) -> None:
    ended = _start({"DEBUG": "true"}, tmp_path, "manage.py", "shell", "-c", "raise KeyboardInterrupt")
    assert (ended.returncode, ended.stderr) == (130, "Stopped.\n")


def test_what_a_healthy_database_refuses_is_not_blamed_on_its_address(tmp_path: Path) -> None:
    broken = "from django.db import IntegrityError; raise IntegrityError('twice')"
    ended = _start({"DEBUG": "true"}, tmp_path, "manage.py", "shell", "-c", broken)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "django.db.utils.IntegrityError: twice"
