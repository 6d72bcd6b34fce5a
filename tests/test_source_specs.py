"""`sources` and `keys` in dsflow.yml: every mistake is told with its place."""

from __future__ import annotations

import pytest

from dsflow.specs.load import SpecError, load_workspace
from tests.conftest import MakeWorkspace

KEYS = "keys: {k: [a.x, b.y]}\n"


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("sources: {a: {tabel: x}}", "sources.a.tabel: unknown key; did you mean 'table'?"),
        ("sources: {a: {table: x, path: y}}", "sources.a: name one of 'table', 'raw', 'path' and 'url'"),
        ("sources: {a: {query: SELECT 1}}", "sources.a: 'query' goes with 'url'"),
        ("sources: {a: {path: x, environment: p}}\nenvironments: {p: {}}", "'environment' goes with 'table' or 'raw'"),
        ("sources: {a: {environment: prd}}\nenvironments: {prod: {}}", "no environment 'prd'; did you mean 'prod'?"),
        ("sources: {a: {limit: big}}", "sources.a.limit: 'big' is not an amount of memory"),
        ("sources: {a: {sample: {}}}", "sources.a.sample: say how much: one of 'rows', 'share' and, with 'key', 'of'"),
        ("sources: {a: {sample: {rows: 1, share: 0.1}}}", "sources.a.sample: say how much"),
        ("sources: {a: {sample: {share: 2}}}", "sources.a.sample.share: "),
        ("sources: {a: {sample: {rows: 0}}}", "sources.a.sample.rows: "),
        ("sources: {a: {sample: {key: kk, share: 0.1}}, b: {}}\n" + KEYS, "there is no key 'kk'; did you mean 'k'?"),
        ("sources: {c: {sample: {key: k, share: 1}}, a: {}, b: {}}\n" + KEYS, "key 'k' names no column of 'c'"),
        ("sources: {a: {sample: {key: k, rows: 5}}, b: {}}\n" + KEYS, "'key' goes with 'share' or 'of'"),
        ("sources: {a: {sample: {of: b}}, b: {}}\n" + KEYS, "'of' goes with 'key'"),
        ("sources: {a: {sample: {share: 1, stratify: z, key: k}}, b: {}}\n" + KEYS, "'stratify' goes without 'key'"),
        ("sources: {a: {}}\n" + KEYS, "keys.k: 'b.y': there is no source 'b'"),
        ("sources: {a: {}, b: {}}\nkeys: {k: [a, b.y]}", "keys.k: 'a': write SOURCE.COLUMN"),
        ("sources: {a: {}, b: {}}\nkeys: {k: [[a.x, b.y], b.y]}", "keys.k: 'a.x, b.y': write SOURCE.COLUMN"),
        (
            "sources: {a: {}, b: {}}\nkeys: {k: [[a.x, a.z], b.y]}",
            "keys.k: all of them have the same number of columns",
        ),
        (
            "sources: {a: {sample: {key: k, share: 0.1}}, b: {sample: {key: k, share: 0.1, seed: 3}}}\n" + KEYS,
            "sources.b.sample.seed: the seed is 3, and that of a with the same key 0: no row would join",
        ),
        (
            "sources: {a: {sample: {key: k, of: b}}, b: {sample: {key: k, of: a}}}\n" + KEYS,
            "sources: the samples of a, b wait for each other ('of')",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(make_workspace: MakeWorkspace, text: str, mistake: str) -> None:
    workspace = make_workspace({"dsflow.yml": text + "\n"})
    with pytest.raises(SpecError) as refused:
        load_workspace(workspace)
    assert mistake in refused.value.message


def test_values_of_any_type_are_a_mistake_and_no_crash(make_workspace: MakeWorkspace) -> None:
    for value in (
        "3",
        "[1]",
        "{a: 3}",
        "{a: {sample: 3}}",
        "{a: {sample: {key: [1], of: {b: 1}}}}",
        "{a: {environment: []}}",
    ):
        with pytest.raises(SpecError):
            load_workspace(make_workspace({"dsflow.yml": f"sources: {value}\n"}))
    for value in ("3", "[1]", "{k: 3}", "{k: [3, [4]]}", "{k: [[], {}]}"):
        with pytest.raises(SpecError):
            load_workspace(make_workspace({"dsflow.yml": f"sources: {{a: {{}}}}\nkeys: {value}\n"}))


def test_what_has_no_mistake_is_read(make_workspace: MakeWorkspace) -> None:
    text = """
        sources:
          a: {sample: {key: k, share: 0.01}, limit: 2gb}
          b: {url: $DB, query: SELECT 1, sample: {key: k, of: [a]}}
          c: {raw: clicks, format: json, filter: n > 1, sample: {rows: 5, stratify: country, seed: 7}}
        keys:
          k: [a.x, b.y]
          both: [[a.x, a.z], [b.y, b.z]]
    """
    settings = load_workspace(make_workspace({"dsflow.yml": text}))
    assert settings.keys["both"] == (("a.x", "a.z"), ("b.y", "b.z"))
    assert settings.sources["b"].sample is not None
    assert settings.sources["b"].sample.of == ("a",)
