"""Source code as HTML with the classes that a run's page colours. The only module that imports pygments."""

from __future__ import annotations

import functools
import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pygments.formatter import Formatter
    from pygments.lexer import Lexer


# A worker shows the same code again for every date.
@functools.lru_cache(maxsize=100)
def source(text: str, language: str) -> str:
    """Give code as an HTML fragment.

    Args:
        text: The code; secrets are masked already.
        language: What pygments calls it: `sql`, `python`, `sh`; an unknown one is shown without colours.
    """
    from pygments import highlight

    lexer, formatter = load(language)
    if lexer is None:
        return f'<div class="highlight"><pre>{html.escape(text)}</pre></div>'
    return highlight(text, lexer, formatter)


@functools.cache
def load(language: str) -> tuple[Lexer | None, Formatter[str]]:
    """Give what colours a language, loaded once per process; no lexer for a language that is not known."""
    from pygments.formatters.html import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        return get_lexer_by_name(language, stripnl=False), HtmlFormatter()
    except ClassNotFound:
        return None, HtmlFormatter()
