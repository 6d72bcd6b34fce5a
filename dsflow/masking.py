"""Keeps secrets out of logs, pages and notebooks.

A value is secret when the environment variable or parameter that holds it is named like one. Its plain text and
its usual encodings (JSON, repr, HTML, URL) are replaced wherever dsflow writes text.
"""

from __future__ import annotations

import html
import json
import re
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Any

MASK = "***"
_SECRET_NAME = re.compile(r"secret|token|passw(or)?d|api_?key|credential", re.IGNORECASE)
# Shorter values (`1`, `yes`) would blank out ordinary text and are no secrets.
_SHORTEST = 4


def is_secret(name: str) -> bool:
    """Say whether something of this name holds a secret."""
    return _SECRET_NAME.search(name) is not None


class Masker:
    """Replaces known secret values in text.

    Args:
        values: The secret values; those shorter than four characters are left out.
    """

    def __init__(self, values: Iterable[str]) -> None:
        forms = {form for value in values if len(value) >= _SHORTEST for form in _forms(value)}
        ordered = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    @classmethod
    def of(cls, *named: Mapping[str, Any]) -> Masker:
        """Collect the values of all secret-looking names in some mappings (an environment, parameters)."""
        return cls(str(value) for mapping in named for name, value in mapping.items() if is_secret(name) and value)

    def __call__(self, text: str) -> str:
        """Give the text with every secret value replaced by `***`."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)


def _forms(value: str) -> set[str]:
    escaped = json.dumps(value)[1:-1]
    texts = {
        value,
        escaped,
        json.dumps(value, ensure_ascii=False)[1:-1],
        json.dumps(escaped)[1:-1],
        repr(value)[1:-1],
    }
    pages = {html.escape(text) for text in texts} | {html.escape(text, quote=False) for text in texts}
    # As Jinja writes them.
    pages |= {page.replace("&quot;", "&#34;").replace("&#x27;", "&#39;") for page in pages}
    addresses = {
        urllib.parse.quote(value, errors="surrogatepass"),
        urllib.parse.quote(value, safe="", errors="surrogatepass"),
        urllib.parse.quote_plus(value, errors="surrogatepass"),
    }
    return texts | pages | addresses | {line for line in value.splitlines() if len(line) >= 2 * _SHORTEST}
