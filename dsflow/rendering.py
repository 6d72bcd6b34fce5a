"""Fills in `{{ ... }}` in SQL, specs and templates with Jinja2, in a sandbox that no text can make hang or eat memory.

The language is Jinja's expressions, `if`, `for` and `set`. Everything that takes work is paid from one budget per
text: loop steps, calls, filters, operators, and the size of what they give. No clock is involved, so a text that
renders once renders always, in any thread.
"""

from __future__ import annotations

import functools
import json
import re
import traceback
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError, TemplateError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from dsflow.errors import DsflowError, UsageError, did_you_mean

LARGEST_TEXT = 1_000_000
# Each becomes some 10 kB of compiled code.
_MOST_MARKS = 10_000
# A text with more braces is compiled each time, or a few of them would fill the memory.
_MOST_KEPT = 500
_BUDGET = 2_000_000
_MOST_BITS = 4_000

_FILTERS = (
    "abs", "attr", "capitalize", "count", "d", "default", "dictsort", "first", "float", "int", "items", "join", "last",
    "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "select",
    "selectattr", "sort", "string", "sum", "title", "trim", "unique", "upper",
)  # fmt: skip
_METHODS = {
    "capitalize", "casefold", "count", "endswith", "find", "get", "index", "isalnum", "isalpha", "isdigit", "items",
    "join", "keys", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rpartition",
    "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "title", "upper", "values",
}  # fmt: skip
# Each of these could repeat text or calls without passing the budget.
_REFUSED: dict[type[nodes.Node], str] = {
    nodes.Macro: "macro",
    nodes.CallBlock: "call",
    nodes.FilterBlock: "filter",
    nodes.AssignBlock: "set without =",
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "from",
    nodes.Extends: "extends",
    nodes.Block: "block",
}


class _TooMuch(Exception):
    """The text asks for more work than any honest one needs."""


def render(text: str, values: Mapping[str, Any], where: str) -> str:
    """Fill in a text.

    Args:
        text: The text, with `{{ name }}` and the rest of Jinja's expressions, `if`, `for` and `set`.
        values: What names stand for; a name that is not there is a mistake.
        where: How messages call the text, such as `jobs/x/query.sql`.

    Raises:
        UsageError: it is not valid, uses an unknown name, fails, or would take too much work.
    """
    if len(text) > LARGEST_TEXT:
        raise UsageError(f"{where}: larger than 1 MB")
    marks = sum(text.count(mark) for mark in ("{{", "{%", "{#"))
    if marks > _MOST_MARKS:
        raise UsageError(f"{where}: more than {_MOST_MARKS:,} places to fill in")
    if not marks:
        return text
    try:
        return _render(text, values)
    except TemplateSyntaxError as error:
        raise UsageError(f"{where}: line {error.lineno}: {(error.message or 'not valid').rstrip('.')}") from None
    except (_TooMuch, RecursionError, MemoryError, SyntaxError) as error:
        reason = str(error) if isinstance(error, _TooMuch) else "it is nested too deeply"
        raise UsageError(f"{where}: {_line(error)}too much work for a text: {reason}") from None
    except DsflowError as error:
        raise UsageError(f"{where}: {_line(error)}{error.message}", error.hint) from None
    except Exception as error:
        raise UsageError(f"{where}: {_line(error)}{_problem(error, values)}") from None


@functools.lru_cache(maxsize=16)
def asks_for(text: str, name: str) -> bool:
    """Say whether what is to be filled into a text depends on a name; of one that is not valid nobody knows."""
    if name not in text or len(text) > LARGEST_TEXT:
        return False
    try:
        return any(node.name == name for node in _Sandbox().parse(text).find_all(nodes.Name))
    except (TemplateSyntaxError, RecursionError):
        return False


def trusted(path: Path, filters: Mapping[str, Callable[..., Any]]) -> Callable[..., str]:
    """Compile an HTML template that dsflow itself brings, with the whole of Jinja; what it fills in is escaped.

    Returns:
        A function from the names of the template to the text.
    """
    loader = FileSystemLoader(path.parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(filters)
    return environment.get_template(path.name).render


def _render(text: str, values: Mapping[str, Any]) -> str:
    environment = _Sandbox()
    compiled = _compiled if text.count("{") <= _MOST_KEPT else _compiled.__wrapped__
    template = Template.from_code(environment, compiled(text), environment.make_globals(None))
    pieces: list[str] = []
    size = 0
    for piece in template.generate(dict(values)):
        size += len(piece)
        if size > LARGEST_TEXT:
            raise _TooMuch("the result is larger than 1 MB")
        pieces.append(piece)
    return "".join(pieces)


# A plan renders the same few texts for many dates.
@functools.lru_cache(maxsize=16)
def _compiled(text: str) -> types.CodeType:
    environment = _Sandbox()
    return environment.compile(_Guard(environment).visit(environment.parse(text)))


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox plus a budget. One per text, because the budget is."""

    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "%", "**"])

    def __init__(self) -> None:
        super().__init__(undefined=StrictUndefined, keep_trailing_newline=True, finalize=self._pay_for, cache_size=0)
        self._left = _BUDGET
        self.globals = {"range": self._range, "namespace": Namespace, "dict": dict}
        self.filters = {name: self._paid(self.filters[name]) for name in _FILTERS}
        self.filters["tojson"] = self._paid(lambda value: json.dumps(value, ensure_ascii=False))

    def bounded(self, values: Iterable[Any]) -> Iterator[Any]:
        """Give the values, each for its price."""
        for value in values:
            self._spend(1)
            yield value

    def joined(self, *values: Any) -> str:
        """Do what `~` does."""
        return "".join(str(self._pay_for(value)) for value in values)

    def literal(self, value: Any) -> Any:
        """Give a list, tuple or dict that the text spells out."""
        return self._pay_for(value)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str | bytes | list | tuple | dict | int | float) and callable(value):
            return attr in _METHODS
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """Let `str.format` be judged like every other method; Jinja would run it, however wide."""

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        self._before(getattr(function, "__self__", None), *args, *kwargs.values())
        return self._pay_for(super().call(context, function, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*" and not (_is_number(left) and _is_number(right)):
            amount, thing = (left, right) if _is_number(left) else (right, left)
            self._spend(int(abs(amount)) * _size(thing) if _is_number(amount) else 0)
        if operator == "%" and isinstance(left, str) and re.search(r"\d{4}|\*", left):
            raise _TooMuch("a format that is too wide")
        if operator == "**" and _bits(left) * max(1, abs(right) if _is_number(right) else 1) > _MOST_BITS:
            raise _TooMuch("the number is too large")
        result = self._pay_for(super().call_binop(context, operator, left, right))
        if _bits(result) > _MOST_BITS:
            raise _TooMuch("the number is too large")
        return result

    def _range(self, *bounds: int) -> range:
        values = range(*bounds)
        if len(values) > _BUDGET:
            raise _TooMuch("the range is too long")
        return values

    def _paid(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._before(*args, *kwargs.values())
            result = function(*args, **kwargs)
            return self.bounded(result) if isinstance(result, Iterator) else self._pay_for(result)

        # Jinja marks the filters that want the context or the environment as their first argument.
        call.__dict__.update(getattr(function, "__dict__", {}))
        return call

    def _before(self, *args: Any) -> None:
        """Pay for what a call may do to its arguments: at worst it repeats one as often as another is long."""
        sizes = sorted((_size(arg) for arg in args), reverse=True)[:2]
        self._spend(1 + (sizes[0] if len(sizes) == 1 else sizes[0] * max(1, sizes[1]) if sizes else 0))

    def _pay_for(self, value: Any) -> Any:
        self._spend(_size(value))
        return value

    def _spend(self, amount: int) -> None:
        self._left -= amount
        if self._left < 0:
            raise _TooMuch("its loops, lists or texts are too long")


class _Guard(NodeTransformer):
    """Sends loops, `~` and written-out lists through the sandbox's budget, and refuses what has no place here."""

    def __init__(self, environment: _Sandbox) -> None:
        self._environment = environment

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        refused = _REFUSED.get(type(node))
        if refused or (isinstance(node, nodes.For) and node.recursive):
            raise TemplateSyntaxError(f"'{refused or 'for ... recursive'}' is not available here", node.lineno)
        return super().generic_visit(node, *args, **kwargs)

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = self._through("bounded", [node.iter])
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return self._through("joined", node.nodes)

    def visit_List(self, node: nodes.List) -> nodes.Node:
        return self._through("literal", [self.generic_visit(node)])

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        return self._through("literal", [self.generic_visit(node)])

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return self._through("literal", [node]) if node.ctx == "load" else node

    def _through(self, method: str, args: list[Any]) -> nodes.Node:
        function = nodes.EnvironmentAttribute(method, environment=self._environment)
        return nodes.Call(function, args, [], None, None, lineno=args[0].lineno, environment=self._environment)


def _size(value: Any) -> int:
    """Give how much text a value would make, roughly; a value inside several others counts each time."""
    total, waiting = 0, [value]
    while waiting and total <= _BUDGET:
        item = waiting.pop()
        if isinstance(item, str | bytes):
            total += len(item)
        elif isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set | frozenset):
            waiting += item
        elif isinstance(item, range):
            total += len(item)
        total += 1
    return total


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0


def _line(error: BaseException) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<template>"]
    return f"line {lines[-1]}: " if lines else ""


def _problem(error: Exception, values: Mapping[str, Any]) -> str:
    text = str(error).splitlines()[0][:200].rstrip(".") if str(error) else type(error).__name__
    unknown = re.fullmatch(r"'(\w+)' is undefined", text)
    if isinstance(error, UndefinedError) and unknown:
        return text + did_you_mean(unknown[1], values)
    if isinstance(error, SecurityError | TemplateError):
        return text
    return f"{text} ({type(error).__name__})"
