"""What templates may say, and that none can hang or eat memory."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dsflow.errors import UsageError
from dsflow.rendering import asks_for, render

VALUES: dict[str, Any] = {"ds": "2026-11-20", "xs": ["a", "b"], "n": 3, "d": {"a": 1}}
DOUBLING = "{% set ns = namespace(x='aa') %}{% for i in range(100) %}{% set ns.x = EXPRESSION %}{% endfor %}{{ ns.x }}"


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("ds = '{{ ds }}' and {{ds}}\n", "ds = '2026-11-20' and 2026-11-20\n"),
        ("no marks, {one} bracket, 100%", "no marks, {one} bracket, 100%"),
        ("{% for x in xs %}{{ x }}{{ '' if loop.last else ', ' }}{% endfor %}", "a, b"),
        ("{% for k, v in d.items() %}{{ k }}={{ v }}{% endfor %}", "a=1"),
        ("{% if n > 2 %}many{% else %}few{% endif %}", "many"),
        ("{% set a, b = 1, n %}{{ a + b }} {{ ds ~ '-' ~ n }}", "4 2026-11-20-3"),
        ("{{ xs | map('upper') | join(', ') }} {{ xs | tojson }}", 'A, B ["a", "b"]'),
        ("{{ '%02d' % n }} {{ ds.replace('-', '') }} {{ 2 ** n }} {{ [n] * 2 }}", "03 20261120 8 [3, 3]"),
        ("{{ missing | default('z') }}{% if other is defined %}x{% endif %}", "z"),
        ("{% raw %}{{ ds }}{% endraw %}{# a remark #}", "{{ ds }}"),
    ],
)
def test_expressions_loops_and_conditions_are_filled_in(text: str, result: str) -> None:
    assert render(text, VALUES, "q.sql") == result


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("\n\n{{ dss }}", "q.sql: line 3: 'dss' is undefined; did you mean 'ds'?"),
        ("{{ zzz }}", "q.sql: line 1: 'zzz' is undefined"),
        ("{{ d.zzz }}", "q.sql: line 1: 'dict object' has no attribute 'zzz'"),
        ("a\n{{ ", "q.sql: line 2: unexpected 'end of template'"),
        ("{% for %}", "q.sql: line 1: Expected an expression, got 'end of statement block'"),
        ("{% nope %}", "q.sql: line 1: Encountered unknown tag 'nope'"),
        ("{{ ds | nope }}", "q.sql: line 1: No filter named 'nope'"),
        ("\n{{ 1 / 0 }}", "q.sql: line 2: division by zero (ZeroDivisionError)"),
        ("{{ ds() }}", "q.sql: line 1: 'str' object is not callable (TypeError)"),
        ("{% include 'x' %}", "q.sql: line 1: 'include' is not available here"),
        ("{% macro a() %}{% endmacro %}", "q.sql: line 1: 'macro' is not available here"),
        ("{{ ds.__class__ }}", "q.sql: line 1: access to attribute '__class__' of 'str' object is unsafe"),
        ("{{ xs.append(1) }}", "q.sql: line 1: access to attribute 'append' of 'list' object is unsafe"),
        ("x" * 1_000_001, "q.sql: larger than 1 MB"),
    ],
)
def test_a_mistake_is_a_sentence_with_its_line(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        render(text, VALUES, "q.sql")
    assert caught.value.message == sentence


@pytest.mark.parametrize(
    "bomb",
    [
        "{{ 'a' * 10**9 }}",
        "{{ [1] * 10**9 }}",
        "{{ 10**9 * 'a' }}",
        "{{ 9**9**9**9**9 }}",
        "{% set ns = namespace(x=9) %}{% for i in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ 'a'.ljust(10**9) }}",
        "{{ 'a' | center(10**9) }}",
        "{{ lipsum(10**6) }}",
        "{{ range(10**12) | list }}",
        "{% for i in range(10**9) %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}" + "x" * 1000 + "{% endfor %}",
        DOUBLING.replace("EXPRESSION", "ns.x ~ ns.x"),
        DOUBLING.replace("EXPRESSION", "ns.x + ns.x"),
        DOUBLING.replace("EXPRESSION", "[ns.x, ns.x]"),
        DOUBLING.replace("EXPRESSION", "(ns.x, ns.x)"),
        DOUBLING.replace("EXPRESSION", "{1: ns.x, 2: ns.x}"),
        DOUBLING.replace("EXPRESSION", "ns.x.replace('a', ns.x)"),
        DOUBLING.replace("EXPRESSION", "ns.x | replace('a', ns.x)"),
        DOUBLING.replace("EXPRESSION", "[ns.x] | join(ns.x) ~ ns.x * 2"),
        (
            "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}"
            "{% endfor %}"
        ),
        "{{ ('a' * 99999).join(range(99999) | map('string')) }}",
        "{{ range(99999) | map('replace', '1', 'a' * 9999) | list }}",
        "{% for x in xs recursive %}{{ loop(xs) }}{{ loop(xs) }}{% endfor %}",
        "{% macro a() %}{{ a() }}{{ a() }}{% endmacro %}{{ a() }}",
        "{{ " + "(" * 5000 + " }}",
        "{{ " + "-" * 5000 + "1 }}",
        "{{ " + "1+" * 5000 + "1 }}",
        "{% if 1 %}" * 5000 + "{% endif %}" * 5000,
        "{% for i in xs %}" * 60 + "{% endfor %}" * 60,
        "{{ ds }}" * 100_000,
    ],
)
def test_a_bomb_is_refused(bomb: str) -> None:
    with pytest.raises(UsageError) as caught:
        render(bomb, VALUES, "q.sql")
    assert caught.value.message.startswith("q.sql: ")
    assert "\n" not in caught.value.message


def test_the_budget_is_per_text() -> None:
    text = "{% for i in range(100000) %}{% endfor %}x"
    assert [render(text, VALUES, "q.sql") for _ in range(30)] == ["x"] * 30


def test_a_bomb_is_refused_in_a_thread_too() -> None:
    caught: list[UsageError] = []

    def work() -> None:
        try:
            render("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", VALUES, "q.sql")
        except UsageError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("{% if not is_first %}x{% endif %}", True),
        ("{% set known = {'a': is_first} %}{{ known }}", True),
        ("SELECT is_first FROM t WHERE ds = '{{ ds }}'", False),
        ("{{ 'is_first' }}", False),
        ("{# is_first #}{% raw %}{{ is_first }}{% endraw %}", False),
        ("{% if is_first %}", False),
        ("{{ " + "(" * 5_000 + "is_first" + ")" * 5_000 + " }}", False),
    ],
)
def test_a_text_is_known_to_ask_for_a_name(text: str, asks: bool) -> None:
    assert asks_for(text, "is_first") is asks
