"""Secrets are found by name and blanked in every spelling they appear in."""

from __future__ import annotations

import html
import json
import urllib.parse

import markupsafe
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsflow.masking import MASK, Masker, is_secret

TRICKY = "p\"a<s>s&w'o\\r d/é+%\n"


@pytest.mark.parametrize(
    "name",
    [
        "API_TOKEN", "db_password", "PGPASSWORD", "DB_PASSWD", "aws_secret_access_key", "apikey", "API_KEY",
        "GOOGLE_APPLICATION_CREDENTIALS", "clientSecret",
    ],
)  # fmt: skip
def test_a_secret_is_known_by_its_name(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", ["city", "ds", "PATH", "keyboard", "pass_through", "monkey", ""])
def test_other_names_are_no_secrets(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize(
    "spelling",
    [
        str,
        repr,
        json.dumps,
        lambda value: json.dumps(value, ensure_ascii=False),
        lambda value: json.dumps({"log": json.dumps(value)}),
        html.escape,
        urllib.parse.quote,
        urllib.parse.quote_plus,
        lambda value: urllib.parse.quote(value, safe=""),
        lambda value: f"{value}{value}",
        lambda value: html.escape(json.dumps(value)),
        lambda value: str(markupsafe.escape(value)),
    ],
    ids=[
        "plain",
        "repr",
        "json",
        "json-utf8",
        "json-in-json",
        "html",
        "url",
        "form",
        "url-all",
        "twice",
        "json-in-html",
        "page",
    ],
)
@pytest.mark.parametrize("secret", ["hunter2000", TRICKY, "línea", "a b&c", "50%/2"])
def test_a_secret_is_blanked_however_it_is_spelled(secret: str, spelling: object) -> None:
    assert callable(spelling)
    shown = Masker([secret])(f"before {spelling(secret)} after")
    assert MASK in shown
    assert shown.startswith("before ")
    assert shown.endswith(" after")
    assert spelling(secret)[1:-1] not in shown
    for part in ("hunter", 'p"a', "línea", "lí", "50%", "w'o"):
        if part in secret:
            assert part not in shown


def test_lines_of_a_long_secret_are_secrets() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqh\nxyz\n-----END KEY-----"
    mask = Masker([key])
    assert mask("  MIIEvQIBADANBgkqh") == f"  {MASK}"
    assert mask("xyz") == "xyz"


def test_the_longer_of_two_secrets_is_blanked_whole() -> None:
    mask = Masker(["hunter", "hunter2000", "2000-hunter"])
    assert mask("hunter2000") == MASK
    assert mask("2000-hunter") == MASK


@pytest.mark.parametrize("value", ["", "1", "yes", "abc"])
def test_short_values_stay_because_they_are_words_of_ordinary_text(value: str) -> None:
    assert Masker([value])("1 yes abc") == "1 yes abc"


def test_values_come_from_the_names_of_environments_and_parameters() -> None:
    mask = Masker.of(
        {"API_TOKEN": "tok-1234", "CITY": "paris"},
        {"db_password": 12345678, "other_token": None, "secret_list": ["abcd"]},
    )
    assert mask("tok-1234 paris 12345678 None") == f"{MASK} paris {MASK} None"


def test_without_secrets_text_stays_as_it_is() -> None:
    assert Masker([])("anything") == "anything"
    assert Masker.of({}, {"city": "paris"})("paris") == "paris"


# Surrogates too: a variable may hold any bytes.
@given(st.text(st.characters(exclude_characters="|"), min_size=4, max_size=20))
def test_whatever_the_secret_it_is_gone(secret: str) -> None:
    assert Masker([secret])(f"|{secret}|{secret}|") == f"|{MASK}|{MASK}|"
