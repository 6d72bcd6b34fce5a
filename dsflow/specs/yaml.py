"""Reads the YAML files a person writes, and says in one sentence what is wrong with one.

The words that are not text are those of YAML 1.2: `true`, `false`, `null`, decimal numbers. Dates, `yes`, `no`, `010`
and `1:30` stay text, so that a `ds` or a postal code is what was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml

from dsflow.errors import UsageError

LARGEST_FILE = 1_000_000
_DEEPEST = 50
# Aliases let a few lines stand for millions of values; no honest spec comes near this.
_MOST_VALUES = 100_000
_SafeLoader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"


class SpecError(UsageError):
    """A file that a person wrote has mistakes.

    Args:
        mistakes: One sentence per mistake, each with its file and place.
        hint: What to do next.
    """

    def __init__(self, mistakes: Iterable[str], hint: str = "") -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes), hint)


class _Loader(_SafeLoader):  # type: ignore[misc]
    """PyYAML's safe loader with fewer words that are not text."""

    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {}


_WORDS: tuple[tuple[str, str, Iterable[str]], ...] = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(0|[1-9][0-9]{0,17})", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|(0|[1-9][0-9]{0,17})(\.[0-9]*)?([eE][-+]?[0-9]{1,3})?)", "-+.0123456789"),
)
for _name, _pattern, _first in _WORDS:
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), list(_first))


def read_mapping(path: Path, shown: str) -> dict[str, Any]:
    """Give the mapping in a YAML file; an empty file is an empty mapping.

    Args:
        path: The file.
        shown: How messages call it.

    Raises:
        SpecError: it cannot be read, is not YAML, holds anything but text keys and plain values, or is a bomb.
    """
    text = read_text(path, shown)
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise _at(shown, event.start_mark, f"nested more than {_DEEPEST} levels deep")
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        problem = str(error.problem).removeprefix("but ")
        raise _at(shown, error.problem_mark or error.context_mark, f"not valid YAML: {problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        reason = getattr(error, "reason", None) or "a character that YAML does not allow"
        raise SpecError([f"{shown}: not valid YAML: {reason}"]) from None
    if node is None or node.tag == _TAG + "null":
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise _at(shown, node.start_mark, "expected keys and values, such as `version: 1`")
    return _Values(shown).mapping(node)


def read_text(path: Path, shown: str) -> str:
    """Give the text of a file that a person wrote.

    Args:
        path: The file.
        shown: How messages call it.

    Raises:
        SpecError: it is missing, not a file, larger than 1 MB, or not UTF-8.
    """
    try:
        if not path.is_file():
            raise SpecError([f"{shown}: {'is not a file' if path.exists() else 'there is no such file'}"])
        if path.stat().st_size > LARGEST_FILE:
            raise SpecError([f"{shown}: larger than 1 MB"])
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError([f"{shown}: not UTF-8 text (byte {error.start + 1})"]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError([f"{shown}: cannot be read: {reason}"]) from None


def dump(value: Mapping[str, Any]) -> str:
    """Give plain values as YAML that `read_mapping` reads back, in their order; a mapping in a list is one line."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100_000))


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper with tables a person can read, and texts of several lines as they are."""

    def represent_text(self, text: str) -> yaml.Node:
        style = "|" if "\n" in text else None
        return self.represent_scalar(_TAG + "str", text, style=style)

    def represent_table(self, rows: Iterable[Any]) -> yaml.Node:
        node = self.represent_sequence(_TAG + "seq", list(rows))
        for item in node.value:
            if not isinstance(item, yaml.ScalarNode):
                item.flow_style = True
        node.flow_style = all(isinstance(item, yaml.ScalarNode) for item in node.value)
        return node

    def ignore_aliases(self, data: Any) -> bool:
        return True


# What PyYAML takes for a number, a date or a word of YAML 1.1 is quoted as text; so is what dsflow reads as a number.
for _name, _pattern, _first in _WORDS:
    _Dumper.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), list(_first))
_Dumper.add_representer(str, _Dumper.represent_text)
_Dumper.add_representer(list, _Dumper.represent_table)


class _Values:
    """Turns YAML nodes into Python values; a node that is used twice gives the same value twice."""

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._done: dict[int, tuple[Any, int]] = {}
        self._open: set[int] = set()

    def mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        value: dict[str, Any] = self._value(node)[0]
        return value

    def _value(self, node: yaml.Node) -> tuple[Any, int]:
        if id(node) in self._open:
            raise _at(self._shown, node.start_mark, "refers to itself")
        if id(node) not in self._done:
            self._open.add(id(node))
            self._done[id(node)] = self._build(node)
            self._open.discard(id(node))
        value, size = self._done[id(node)]
        if size > _MOST_VALUES:
            raise _at(self._shown, node.start_mark, f"stands for more than {_MOST_VALUES:,} values")
        return value, size

    def _build(self, node: yaml.Node) -> tuple[Any, int]:
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            pairs: dict[str, Any] = {}
            size = 1
            for key_node, value_node in node.value:
                key = self._key(key_node, pairs)
                pairs[key], more = self._value(value_node)
                size += more
            return pairs, size
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            built = [self._value(item) for item in node.value]
            return [value for value, _ in built], 1 + sum(more for _, more in built)
        return self._scalar(node), 1

    def _key(self, node: yaml.Node, seen: dict[str, Any]) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag != _TAG + "str":
            quoted = f"; write '{node.value}'" if isinstance(node, yaml.ScalarNode) else ""
            raise _at(self._shown, node.start_mark, f"a key must be text{quoted}")
        key = str(node.value)
        if key in seen:
            raise _at(self._shown, node.start_mark, f"key {short(key)} is there twice")
        return key

    def _scalar(self, node: yaml.Node) -> Any:
        text = str(node.value)
        kind = node.tag.removeprefix(_TAG)
        try:
            match kind:
                case "str" | "null":
                    return text if kind == "str" else None
                case "bool":
                    return {"true": True, "false": False}[text.lower()]
                case "int":
                    return int(text)
                case "float":
                    return float(text)
        except (KeyError, ValueError):
            wanted = "true or false" if kind == "bool" else "a number"
            raise _at(self._shown, node.start_mark, f"{short(text)} is not {wanted}") from None
        raise _at(self._shown, node.start_mark, f"the tag {short(kind)} is not allowed")


def short(value: Any) -> str:
    """Give a value as it is quoted in a message: one line, not long."""
    shown = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    shown = "nothing" if value is None else shown
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _at(shown: str, mark: Any, problem: str) -> SpecError:
    place = f" line {mark.line + 1}, column {mark.column + 1}:" if mark is not None else ""
    return SpecError([f"{shown}:{place} {problem}"])
