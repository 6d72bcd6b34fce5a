"""Passwords are kept as hashes that tell nothing."""

from __future__ import annotations

import pytest

from dsflow import passwords


@pytest.mark.parametrize("password", ["green3", "", "a b", "pässwörd ☂", "x" * 10_000])
def test_what_was_kept_is_known_again_and_nothing_else(password: str) -> None:
    kept = passwords.hashed(password)
    assert passwords.matches(kept, password)
    assert not passwords.matches(kept, password + "x")
    assert not passwords.matches(kept, password[1:] + "y")


def test_the_same_password_is_never_kept_the_same_way_twice() -> None:
    one, other = passwords.hashed("green3"), passwords.hashed("green3")
    assert one != other
    assert "green3" not in one
    assert one.isascii()
    assert one.count("\n") == 0


@pytest.mark.parametrize("kept", ["", "green3", "scrypt", "scrypt:", "scrypt:salt:", "sha1:00:00", "scrypt::ü"])
def test_what_nobody_kept_lets_nobody_in(kept: str) -> None:
    assert not passwords.matches(kept, "green3")
    assert not passwords.matches(kept, "")
