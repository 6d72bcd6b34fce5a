"""Passwords as they are kept: salted and hashed, so that nobody reads them from a file."""

from __future__ import annotations

import hashlib
import hmac
import secrets

_NAME = "scrypt"
# 32 MB and some 50 ms for each guess.
_COST, _BLOCK, _LANES = 2**15, 8, 1
_MEMORY = 2 * 128 * _COST * _BLOCK


def hashed(password: str) -> str:
    """Give what to keep of a password: one line of ASCII that `matches` knows."""
    salt = secrets.token_hex(16)
    return f"{_NAME}:{salt}:{_hash(password, salt)}"


def matches(kept: str, password: str) -> bool:
    """Say whether this is the password that was kept; takes the same time whatever is wrong with it."""
    name, _, rest = kept.partition(":")
    salt, _, expected = rest.partition(":")
    return name == _NAME and hmac.compare_digest(expected.encode(), _hash(password, salt).encode())


def _hash(password: str, salt: str) -> str:
    given = password.encode("utf-8", "surrogatepass")
    made = hashlib.scrypt(given, salt=salt.encode(), n=_COST, r=_BLOCK, p=_LANES, maxmem=_MEMORY)
    return made.hex()
