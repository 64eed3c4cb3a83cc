"""The keys of a running site are rotated although the rotation is killed three times. K02."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.rotated_site import rotated_site

_ROWS = 800


@pytest.mark.django_db
def test_a_rotation_that_is_killed_three_times_ends_with_every_row_under_the_new_key_and_no_failed_read(
    tmp_path: Path,
) -> None:
    with rotated_site(folder=tmp_path, administration=os.environ.get("TEST_DATABASE_URL", "")) as site:
        site.fill(_ROWS)
        assert "FIELD_ENCRYPTION_KEY does not open" in site.start([site.new])

        outcome = site.rotate_under_kills(rows=_ROWS, kills_at=(0.1, 0.4, 0.7), pause=0.02)

        assert (outcome.kills, outcome.failed_reads) == (3, 0)
        assert outcome.reads > 100
        assert site.run("manage.py", "rotate_encryption_keys", "--verify", keys=[site.new, site.old]).returncode == 0
        assert site.start([site.new]) == ""
        assert site.run("manage.py", "audit_verify", keys=[site.new]).stdout.startswith("The chain holds")


@pytest.mark.django_db
def test_a_list_with_a_truncated_key_stops_the_start_in_one_sentence(tmp_path: Path) -> None:
    with rotated_site(folder=tmp_path) as site:
        said = site.start([site.new, site.old[:20]])
    assert said.endswith("FIELD_ENCRYPTION_KEY must be a comma-separated list of 32 random bytes each, in base64url.")
    assert site.old[:20] not in said
