"""What `compare` says about two versions of a table."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from dsflow.comparison import Change, Difference, compare
from dsflow.errors import UsageError
from dsflow.store.datastore import Datastore, Partition

Sides = Callable[[str, str], tuple[Partition, Partition]]
DAYS = {"old": "2026-11-19", "new": "2026-11-20"}


@pytest.fixture
def sides(tmp_path: Path) -> Sides:
    """Give a function that makes two partitions of the results of two queries."""

    def make(old: str, new: str) -> tuple[Partition, Partition]:
        datastore = Datastore(tmp_path)
        made = []
        for side, query in (("old", old), ("new", new)):
            folder = datastore.target("table", "t", DAYS[side])
            folder.mkdir(parents=True, exist_ok=True)
            duckdb.execute(f"COPY ({query}) TO '{folder}/x.parquet'")
            partition = datastore.partition("table", "t", DAYS[side])
            assert partition is not None
            made.append(partition)
        return made[0], made[1]

    return make


def values(*rows: str) -> str:
    return f"FROM (VALUES {', '.join(rows)}) t(id, city, rain)"


def test_equal_partitions_differ_in_nothing(sides: Sides) -> None:
    both = sides(values("(1, 'paris', 2.5)"), values("(1, 'paris', 2.5)"))
    for keys in ([], ["id"]):
        assert not compare(*both, keys)


def test_rows_are_matched_by_their_keys(sides: Sides) -> None:
    old = values("(1, 'paris', 2.5)", "(2, 'lyon', 1.5)", "(3, 'nice', 0.5)")
    new = values("(1, 'paris', 2.5)", "(2, 'lyon', 9.5)", "(4, 'brest', 0.5)")
    assert compare(*sides(old, new), ["id"]) == Difference(
        keys=("id",),
        rows=(3, 3),
        schema=(),
        added=1,
        removed=1,
        changed=1,
        columns={"rain": 1},
        examples_added=({"id": 4, "city": "brest", "rain": Decimal("0.5")},),
        examples_removed=({"id": 3, "city": "nice", "rain": Decimal("0.5")},),
        examples_changed=(Change({"id": 2}, {"rain": (Decimal("1.5"), Decimal("9.5"))}),),
    )


def test_several_columns_may_be_the_keys(sides: Sides) -> None:
    old = values("(1, 'paris', 1)", "(1, 'lyon', 1)")
    found = compare(*sides(old, values("(1, 'paris', 1)", "(1, 'lyon', 2)")), ["id", "city"])
    assert (found.added, found.removed, found.changed) == (0, 0, 1)
    assert found.examples_changed == (Change({"id": 1, "city": "lyon"}, {"rain": (1, 2)}),)


@pytest.mark.parametrize("value", ["NULL::DOUBLE", "'nan'::DOUBLE", "'inf'::DOUBLE"])
@pytest.mark.parametrize("keys", [[], ["id"], ["rain"]])
def test_null_and_nan_are_equal_to_themselves_also_as_keys(sides: Sides, keys: list[str], value: str) -> None:
    same = values(f"(1, 'paris', {value})", "(2, 'paris', 0.0)")
    assert not compare(*sides(same, same), keys)


@pytest.mark.parametrize(("old", "new"), [("NULL", "'nan'"), ("NULL", "0"), ("'nan'", "0"), ("'nan'", "'inf'")])
def test_null_and_nan_differ_from_all_else(sides: Sides, old: str, new: str) -> None:
    sides_ = sides(*(values(f"(1, 'paris', {value}::DOUBLE)") for value in (old, new)))
    assert compare(*sides_, ["id"]).columns == {"rain": 1}
    whole = compare(*sides_)
    assert (whole.added, whole.removed, whole.changed) == (1, 1, 0)
    json.dumps([whole.examples_added, whole.examples_removed], default=str, allow_nan=False)


def test_without_keys_whole_rows_are_counted(sides: Sides) -> None:
    old = values("(1, 'paris', 1)", "(1, 'paris', 1)", "(1, 'paris', 1)", "(2, 'lyon', 2)")
    new = values("(1, 'paris', 1)", "(3, 'nice', 3)", "(3, 'nice', 3)", "(2, 'lyon', 2)")
    found = compare(*sides(old, new))
    assert (found.keys, found.rows, found.added, found.removed, found.changed) == ((), (4, 4), 2, 2, 0)
    assert found.examples_added == ({"id": 3, "city": "nice", "rain": 3},)
    assert found.examples_removed == ({"id": 1, "city": "paris", "rain": 1},)


def test_columns_of_one_side_are_schema_changes_and_nothing_else(sides: Sides) -> None:
    both = sides("SELECT 1 AS id, 'x' AS gone, 2 AS kept", "SELECT 1 AS id, 2 AS kept, 3 AS come")
    for keys in ([], ["id"]):
        found = compare(*both, keys)
        assert found.schema == ("- gone VARCHAR", "+ come INTEGER")
        assert (found.added, found.removed, found.changed) == (0, 0, 0)
        assert found


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("1::INTEGER", "1::BIGINT", 0),
        ("1::INTEGER", "1.0::DOUBLE", 0),
        ("1.5::DECIMAL(4, 2)", "1.5::DOUBLE", 0),
        ("DATE '2026-11-20'", "TIMESTAMP '2026-11-20 00:00:00'", 0),
        ("1", "'1'", 0),
        ("1", "'one'", 1),
        ("[1]", "1", 1),
        ("[1]", "[1.0::DOUBLE]", 1),
    ],
)
def test_a_column_of_another_type_is_compared_by_value_where_that_has_a_meaning(
    sides: Sides, old: str, new: str, changed: int
) -> None:
    both = sides(f"SELECT 1 AS id, {old} AS x", f"SELECT 1 AS id, {new} AS x")
    found = compare(*both, ["id"])
    assert len(found.schema) == 1
    assert found.schema[0].startswith("~ x ")
    assert found.changed == changed
    assert compare(*both).added == changed


def test_nothing_in_common_means_everything_is_new(sides: Sides) -> None:
    found = compare(*sides("SELECT 1 AS a FROM range(3)", "SELECT 1 AS b FROM range(2)"))
    assert (found.added, found.removed, found.schema) == (2, 3, ("- a INTEGER", "+ b INTEGER"))


def test_an_empty_partition_can_be_compared(sides: Sides) -> None:
    row = values("(1, 'paris', 1)")
    for keys in ([], ["id"]):
        found = compare(*sides(row, f"{row} WHERE false"), keys)
        assert (found.rows, found.added, found.removed) == ((1, 0), 0, 1)


def test_names_and_values_of_any_kind(sides: Sides) -> None:
    query = """SELECT 1 AS "my ""key"" #", {{'a': [1, 'nan'::FLOAT]}} AS s, '\\x00'::BLOB AS b, MAP {{'x': {0}}} AS m"""
    found = compare(*sides(query.format(1), query.format(2)), ['my "key" #'])
    assert found.columns == {"m": 1}
    assert compare(*sides(query.format(1), query.format(2))).added == 1


def test_examples_are_the_first_rows_in_order(sides: Sides) -> None:
    both = sides("SELECT range AS id FROM range(0)", "SELECT range AS id FROM range(100) ORDER BY id DESC")
    for keys in ([], ["id"]):
        found = compare(*both, keys, examples=3)
        assert found.added == 100
        assert [row["id"] for row in found.examples_added] == [0, 1, 2]
        assert compare(*both, keys, examples=0).examples_added == ()


def test_keys_that_are_no_keys_are_refused(sides: Sides) -> None:
    both = sides(values("(1, 'paris', 1)", "(1, 'paris', 2)"), values("(1, 'paris', 1)"))
    with pytest.raises(UsageError, match="ds=2026-11-19 has several rows with id=1, city=paris, so id, city cannot be"):
        compare(*both, ["id", "city"])
    with pytest.raises(UsageError, match="ds=2026-11-19 has no column 'citty'; did you mean 'city'?"):
        compare(*both, ["citty"])


def test_it_agrees_with_counting_by_hand(sides: Sides) -> None:
    chance = random.Random(3)
    for _ in range(10):
        rows = [[(chance.choice("abc"), chance.choice((1, 2, None))) for _ in range(8)] for _ in range(2)]
        queries = [
            "FROM (VALUES "
            + ", ".join(f"('{s}', {'NULL' if n is None else n}::INTEGER)" for s, n in side)
            + ") t(s, n)"
            for side in rows
        ]
        old, new = (Counter(side) for side in rows)
        found = compare(*sides(*queries))
        assert (found.added, found.removed) == ((new - old).total(), (old - new).total())


NOISE = "1e-13"


def test_numbers_that_differ_by_noise_are_the_same_where_that_is_asked_for(sides: Sides) -> None:
    old = values("(1, 'paris', 0.3::DOUBLE)", "(2, 'lyon', 1e9)", "(3, 'nice', 0)", "(3, 'nice', 0)")
    new = values("(1, 'paris', 0.1::DOUBLE + 0.2)", f"(2, 'lyon', 1e9 + {NOISE} * 1e9)", "(3, 'nice', 0)") + (
        " UNION ALL SELECT 3, 'nice', 1e-15"
    )
    both = sides(old, new)
    assert compare(*both).added == 3
    assert not compare(*both, tolerance=1e-9)
    both = sides(values("(1, 'paris', 0.3::DOUBLE)"), values("(1, 'paris', 0.1::DOUBLE + 0.2)"))
    assert compare(*both, ["id"]).changed == 1
    assert not compare(*both, ["id"], tolerance=1e-9)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1.0", "1.00001"),
        ("0.0", "0.00001"),
        ("1.0", "NULL"),
        ("1.0", "'Infinity'"),
        ("'NaN'", "1.0"),
        ("'-Infinity'", "'Infinity'"),
    ],
)
@pytest.mark.parametrize("keys", [[], ["id"]])
def test_what_is_not_noise_differs_all_the_same(sides: Sides, old: str, new: str, keys: list[str]) -> None:
    both = sides(*(values(f"(1, 'paris', {value}::DOUBLE)", "(2, 'lyon', 2)") for value in (old, new)))
    found = compare(*both, keys, tolerance=1e-9)
    assert (found.changed, found.added, found.removed) == ((1, 0, 0) if keys else (0, 1, 1))
    assert not compare(both[0], both[0], keys, tolerance=1e-9)


def test_rows_that_noise_would_put_into_another_order_find_each_other(sides: Sides) -> None:
    # By the first number alone the two rows of a city would change places.
    old = "SELECT 'paris' AS city, a, b FROM (VALUES (1::DOUBLE, 10::DOUBLE), (1 + 1e-13, 20)) t(a, b)"
    new = "SELECT 'paris' AS city, a, b FROM (VALUES (1 + 1e-13::DOUBLE, 10::DOUBLE), (1, 20)) t(a, b)"
    assert not compare(*sides(old, new), tolerance=1e-9)


def test_a_row_too_many_is_found_among_close_ones(sides: Sides) -> None:
    old = values("(1, 'paris', 1.0::DOUBLE)", "(1, 'paris', 1.0)")
    new = values("(1, 'paris', 1.0::DOUBLE + 1e-13)", "(1, 'paris', 1.0)", "(1, 'paris', 1.0 - 1e-13)")
    found = compare(*sides(old, new), tolerance=1e-9)
    assert (found.added, found.removed) == (1, 0)
    # Texts, whole numbers and decimals are compared exactly.
    assert compare(*sides(values("(1, 'a', 1.0)"), values("(1, 'a', 1.1)")), tolerance=1.0).added == 1
