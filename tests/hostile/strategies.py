"""What a careless or a hostile person might write."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import strategies as st

_JINJA_BOMBS = [
    "{{ 'a' * 10**9 }}",
    "{% for i in range(10**9) %}{% endfor %}",
    "{{ range(99999) | map('string') | join('a' * 99999) }}",
    "{{ ''.__class__.__mro__ }}",
    "{{ 9**9**9**9**9 }}",
    "{{ " + "(" * 500,
    "{% raw %}",
    "{{ ds",
    "{{ nope }}",
]
_SPECIAL = [
    "",
    ".",
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "a/../../b",
    "a;touch b",
    "$(touch b)",
    "`touch b`",
    "a\nb",
    "a\0b",
    "-rf",
    "--help",
    "~",
    "\u202e",
    "\ud800",
    "é" * 50,
    "\U0001d54f" * 300,
    "x" * 5000,
    "CON",
    "today",
    "2026-11-20",
    "2026-02-30",
    "0001-01-01",
    "9999-12-31",
    "\u0662\u0660\u0662\u0666-11-20",
    "2026-11-20/../../x",
    "{{ ds }}",
    "/data/tables/x/ds={{ ds }}",
    "/data/tables/../ds={{ ds }}",
    "/data/raw/x/ds=..",
    "https://example.org/{{ ds }}",
    "file:///etc/passwd",
]
words = st.one_of(st.text(max_size=30), st.sampled_from(_SPECIAL), st.sampled_from(_JINJA_BOMBS))
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(), st.sampled_from([0, -1, 1e400]), words
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
    max_leaves=6,
)

_KEYS = {
    "version": st.sampled_from([1, "1", "0.1", 0.1, 2, None]),
    "kind": st.sampled_from(["sql", "script", "notebook", "dashboard", "sqll"]),
    "class": st.sampled_from(["JupyterNotebook", "CommandLineTool", "PlotlyDashApplication", "x"]),
    "main": words,
    "script": words,
    "grain": st.sampled_from(["day", "hour", "week", "month", "x"]),
    "engine": words,
    "description": words,
    "parameters": st.dictionaries(words, scalars, max_size=3),
    "job_parameters": st.lists(words, max_size=3),
    "task_specs": st.dictionaries(st.sampled_from(["source_path", "sink_path", "x"]), words, max_size=3),
    "inputs": st.dictionaries(
        words,
        st.dictionaries(st.sampled_from(["raw", "table", "path", "window", "as_of", "format"]), scalars, max_size=3),
        max_size=3,
    ),
    "output": st.dictionaries(st.sampled_from(["raw", "table", "kind"]), words, max_size=2),
    "expectations": st.lists(st.dictionaries(st.sampled_from(["name", "constraint", "action"]), words), max_size=2),
    "run": st.dictionaries(
        st.sampled_from(["memory", "cpus", "timeout", "image", "requirements", "environment", "network"]),
        st.one_of(scalars, st.lists(words, max_size=2)),
        max_size=3,
    ),
}


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """Give a spec in which every value may be right, wrong or hostile."""
    keys = draw(st.lists(st.sampled_from(sorted(_KEYS)), unique=True))
    spec: dict[str, Any] = {"version": 1, "kind": "sql"}
    for key in keys:
        spec[key] = draw(st.one_of(_KEYS[key], values) if draw(st.integers(0, 4)) == 0 else _KEYS[key])
    if draw(st.booleans()):
        spec[draw(words)] = draw(values)
    return spec


def as_yaml(spec: object) -> bytes:
    """Give a spec as a file; what no text file can hold is written as it comes."""
    return yaml.safe_dump(spec, allow_unicode=True).encode("utf-8", "surrogatepass")


yaml_like = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.text(alphabet="{}[]&*a!|>-:,'\"#%@` \n\t0", max_size=120).map(str.encode),
    specs().map(as_yaml),
)
templates = st.one_of(
    words,
    st.text(alphabet="{}%#()[]|~+-*'\".,: \nadsrngefoi0123456789", max_size=80),
    st.lists(
        st.sampled_from(
            [
                "{{",
                "}}",
                "{%",
                "%}",
                " for i in ",
                " range(",
                "9",
                ")",
                " endfor ",
                " set x = ",
                "x",
                "~",
                "*",
                "**",
                "[",
                "]",
                " if ",
                " endif ",
                "|join(",
                "|list",
                "ds",
                "'a'",
                "(",
                ",",
                "|map('replace', 'a', 'aa'",
                ".replace('', ",
                "+",
            ]
        ),
        max_size=25,
    ).map("".join),
)
sql_like = st.lists(
    st.sampled_from(["SELECT", "FROM", "WITH", "a", "AS", "(", ")", ",", ";", "'", '"', "--", "/*", "1"])
).map(" ".join)
