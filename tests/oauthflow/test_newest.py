"""What is remembered is bounded."""

from __future__ import annotations

from oauthflow.newest import Newest


def test_the_oldest_is_forgotten_and_what_is_kept_again_is_new() -> None:
    kept: Newest[str, int] = Newest(most=2)
    kept["a"], kept["b"] = 1, 2
    kept["a"] = 3
    kept["c"] = 4
    assert list(kept.items()) == [("a", 3), ("c", 4)]
    kept.move_to_end("a")
    kept["d"] = 5
    assert list(kept.items()) == [("a", 3), ("d", 5)]
