from __future__ import annotations

from pathlib import Path

from examples.authorization_server.clients import Client, save_client
from examples.authorization_server.database import open_database, purge_expired
from examples.authorization_server.grants import create_grant, find_token, grants_of, issue_token


def _database_with_grant(path: Path):
    database = open_database(path)
    save_client(database, Client("a client", "A client", ("https://client.example/",), ("authorization_code",)))
    return database, create_grant(database, client_id="a client", subject="somebody", scope="profile", resource="")


def test_tokens_outlive_a_restart_and_are_kept_as_hashes_in_a_private_file(tmp_path):
    path = tmp_path / "folder" / "file.sqlite3"
    database, grant_id = _database_with_grant(path)
    token = issue_token(database, kind="refresh", grant_id=grant_id, scope="profile", lifetime_seconds=60)
    database.close()
    assert path.stat().st_mode & 0o077 == 0
    assert token.encode() not in path.read_bytes()
    database = open_database(path)
    found = find_token(database, token, kind="refresh")
    assert found is not None
    assert found.grant.subject == "somebody"
    database.close()


def test_an_expired_token_opens_nothing_and_is_purged_with_its_grant(tmp_path):
    database, grant_id = _database_with_grant(tmp_path / "file.sqlite3")
    token = issue_token(database, kind="access", grant_id=grant_id, scope="profile", lifetime_seconds=0)
    assert find_token(database, token, kind="access") is None
    assert len(grants_of(database, subject="somebody")) == 1
    purge_expired(database)
    assert grants_of(database, subject="somebody") == []
    database.close()
