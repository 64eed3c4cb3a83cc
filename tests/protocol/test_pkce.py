"""The verifier, the challenge and the state."""

from __future__ import annotations

import re

import pytest

from oauthflow.protocol.errors import InvalidRequestError
from oauthflow.protocol.pkce import CODE_CHALLENGE_METHOD, new_code_verifier, new_state, s256_challenge
from oauthflow.protocol.secret import Secret
from tests.requirements import requirement


@requirement("A-02", "A-03")
def test_the_challenge_is_the_one_of_the_rfcs_appendix() -> None:
    verifier = Secret("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    assert s256_challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert CODE_CHALLENGE_METHOD == "S256"


@pytest.mark.parametrize("length", [43, 64, 128])
def test_a_verifier_of_an_allowed_length_gives_a_challenge_of_43_characters(length: int) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", s256_challenge(Secret("a" * length)))


@pytest.mark.parametrize("length", [0, 1, 42, 129, 10_000])
def test_a_verifier_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(InvalidRequestError):
        s256_challenge(Secret("a" * length))


@pytest.mark.parametrize("character", ["+", "/", "=", " ", "\n", "é", "%"])
def test_a_verifier_with_a_reserved_character_is_refused(character: str) -> None:
    with pytest.raises(InvalidRequestError):
        s256_challenge(Secret("a" * 43 + character))


def test_a_refused_verifier_is_not_repeated_in_the_error() -> None:
    with pytest.raises(InvalidRequestError) as refused:
        s256_challenge(Secret("too-short-marker"))
    assert "marker" not in f"{refused.value} {refused.value.detail} {refused.value!r}"


def test_new_verifiers_are_64_unreserved_characters_and_never_repeat() -> None:
    verifiers = {new_code_verifier().reveal() for _ in range(100)}
    assert len(verifiers) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9\-._~]{64}", verifier) for verifier in verifiers)


@requirement("A-09")
def test_new_states_hold_256_bits_and_never_repeat() -> None:
    states = {new_state().reveal() for _ in range(100)}
    assert len(states) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", state) for state in states)


def test_neither_verifier_nor_state_prints() -> None:
    assert (repr(new_code_verifier()), f"{new_state()}") == ("***", "***")
