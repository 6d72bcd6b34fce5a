"""Source code as HTML with the classes that a run's page colours. The only module that imports pygments."""

from __future__ import annotations

import html


def source(text: str, language: str) -> str:
    """Give code as an HTML fragment.

    Args:
        text: The code; secrets are masked already.
        language: What pygments calls it: `sql`, `python`, `sh`; an unknown one is shown without colours.
    """
    from pygments import highlight
    from pygments.formatters.html import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        return highlight(text, get_lexer_by_name(language, stripnl=False), HtmlFormatter())
    except ClassNotFound:
        return f'<div class="highlight"><pre>{html.escape(text)}</pre></div>'
