"""What means something else in the other SQL although it looks translated: found by running both engines side by side.

A construct is on the list where translating it gives other rows without an error, at least for some values, and a
sample may well not have these. What the other engine refuses needs no line: the check says it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from sqlglot import exp

from dsflow.parity.columns import FRACTIONAL, NESTED, Types, type_of

_BOTH = ("duckdb", "spark")
_NAMES_OF_DAYS = {"DOW", "DAYOFWEEK", "ISODOW", "DAYOFWEEK_ISO", "WEEKDAY"}
_COMPARED = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Between)
_WHOLE = (
    exp.Floor,
    exp.Ceil,
    exp.Round,
    exp.Trunc,
    exp.Length,
    exp.Count,
    exp.CountIf,
    exp.IntDiv,
    exp.Year,
    exp.Month,
)


@dataclass(frozen=True)
class Rule:
    """One construct that is refused.

    Attributes:
        found: Says whether a node is that construct.
        reason: Why it is refused, and what to write instead.
        written_in: The dialects in which it is.
    """

    found: Callable[[exp.Expr, Types], bool]
    reason: str
    written_in: tuple[str, ...] = _BOTH


@dataclass(frozen=True)
class Refusal:
    """A place in a query that cannot be ported, and why."""

    line: int
    source: str
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.source}: {self.reason}"


def refusals(tree: exp.Expr, dialect: str, columns: Mapping[str, str]) -> list[Refusal]:
    """Give the constructs of a query that mean something else in the other dialect.

    Args:
        tree: The query.
        dialect: What it is written in.
        columns: The types of the columns it reads, in DuckDB's words, by name.
    """
    types = Types.of(tree, columns)
    return sorted(
        {
            Refusal(_line(node), _short(node.sql(dialect)), rule.reason)
            for node in tree.walk()
            for rule in RULES
            if dialect in rule.written_in and rule.found(node, types)
        },
        key=lambda refusal: (refusal.line, refusal.source),
    )


def _is(*kinds: type[exp.Expr]) -> Callable[[exp.Expr, Types], bool]:
    return lambda node, types: isinstance(node, kinds)


def _called(*names: str) -> Callable[[exp.Expr, Types], bool]:
    return lambda node, types: isinstance(node, exp.Anonymous) and str(node.this).casefold() in names


def _fraction_to_whole(node: exp.Expr, types: Types) -> bool:
    if not isinstance(node, exp.Cast | exp.TryCast) or node.to.this not in exp.DataType.INTEGER_TYPES:
        return False
    known = type_of(node.this, types)
    if isinstance(node.this, _WHOLE) or (isinstance(node.this, exp.Round) and not node.this.args.get("decimals")):
        return False
    return known is None or known in FRACTIONAL


def _number_to_text(node: exp.Expr, types: Types) -> bool:
    if not isinstance(node, exp.Cast | exp.TryCast) or node.to.this not in exp.DataType.TEXT_TYPES:
        return False
    return type_of(node.this, types) in {"DOUBLE", "FLOAT", *NESTED}


def _date_and_interval(node: exp.Expr, types: Types) -> bool:
    """A date moved by an interval, where its type shows: DuckDB makes a moment of it."""
    if isinstance(node, exp.Add | exp.Sub):
        moved = node.this if isinstance(node.expression, exp.Interval) else None
    elif isinstance(node, exp.TsOrDsAdd | exp.AddMonths | exp.DateAdd | exp.DateSub):
        moved = node.this
    else:
        return False
    if moved is None or type_of(moved, types) == "TIMESTAMP":
        return False
    above = node.parent
    while isinstance(above, exp.Paren):
        above = above.parent
    # Compared, both count as the moment at which the date begins; a CAST says what is meant.
    return not isinstance(above, (*_COMPARED, exp.Cast, exp.TryCast, exp.Add, exp.Sub))


def _difference_of_dates(node: exp.Expr, types: Types) -> bool:
    return isinstance(node, exp.Sub) and type_of(node.this, types) == type_of(node.expression, types) == "DATE"


def _series_of_dates(node: exp.Expr, types: Types) -> bool:
    if not isinstance(node, exp.GenerateSeries):
        return False
    start = node.args.get("start")
    return start is not None and type_of(start, types) != "INTEGER"


def _day_of_week(node: exp.Expr, types: Types) -> bool:
    if isinstance(node, exp.Extract):
        return node.name.upper() in _NAMES_OF_DAYS
    if isinstance(node, exp.Anonymous) and str(node.this).casefold() in ("date_part", "datepart"):
        return bool(node.expressions) and node.expressions[0].name.upper() in _NAMES_OF_DAYS
    return isinstance(node, exp.DayOfWeek | exp.DayOfWeekIso) or _called("weekday")(node, types)


def _from_nothing(node: exp.Expr, types: Types) -> bool:
    start = node.args.get("start") if isinstance(node, exp.Substring) else None
    return isinstance(start, exp.Literal) and start.name == "0"


def _unguarded_logarithm(node: exp.Expr, types: Types) -> bool:
    return isinstance(node, exp.Ln | exp.Log) and node.find_ancestor(exp.Case, exp.If) is None


def _other_base(node: exp.Expr, types: Types) -> bool:
    return isinstance(node, exp.Log) and node.args.get("expression") is None


def _all_values(node: exp.Expr, types: Types) -> bool:
    return isinstance(node, exp.ArrayAgg) and not isinstance(node.parent, exp.Filter)


def _first_match_only(node: exp.Expr, types: Types) -> bool:
    modifiers = node.args.get("modifiers") if isinstance(node, exp.RegexpReplace) else None
    return isinstance(node, exp.RegexpReplace) and "g" not in (modifiers.name if modifiers else "")


def _steps_of_time(node: exp.Expr, types: Types) -> bool:
    if not isinstance(node, exp.DateDiff | exp.TimestampDiff):
        return False
    unit = node.args.get("unit")
    return unit is not None and unit.name.upper() not in ("DAY", "DAYS", "D")


def _decimal_quotient(node: exp.Expr, types: Types) -> bool:
    if isinstance(node, exp.Avg):
        return type_of(node.this, types) == "DECIMAL"
    if not isinstance(node, exp.Div):
        return False
    sides = {type_of(node.this, types), type_of(node.expression, types)}
    return "DECIMAL" in sides and not sides & {"DOUBLE", "FLOAT"}


def _format_of_time(node: exp.Expr, types: Types) -> bool:
    pattern = node.args.get("format") if isinstance(node, exp.TimeToStr) else None
    return pattern is not None and any(part in pattern.name for part in ("%j", "%U", "%W", "%u", "%w", "%V", "%G"))


def _json_text(node: exp.Expr, types: Types) -> bool:
    is_cast = isinstance(node, exp.Cast | exp.TryCast) and node.to.this is exp.DType.JSON
    return isinstance(node, exp.JSONFormat) or is_cast or _called("to_json")(node, types)


RULES = (
    Rule(
        lambda node, types: isinstance(node, exp.Lateral) and bool(node.args.get("outer")),
        "LATERAL VIEW OUTER loses the rows that have no element; write LEFT JOIN with a query that explodes",
    ),
    Rule(
        _fraction_to_whole,
        "DuckDB rounds a fraction where Spark cuts it off; write floor(x), ceil(x) or round(x) inside, or, if it is "
        "no fraction, CAST it to text first",
    ),
    Rule(
        _date_and_interval,
        "a date stays a date in Spark and becomes a TIMESTAMP in DuckDB; put CAST(... AS DATE) around it",
    ),
    Rule(
        _difference_of_dates,
        "it is a number of days in DuckDB and an interval in Spark; write datediff",
    ),
    Rule(_series_of_dates, "the dates of a series become moments in DuckDB; make a series of whole numbers"),
    Rule(_day_of_week, "the days of the week are counted from another day, and from 0 or 1"),
    Rule(_from_nothing, "position 0 is the first character in Spark and the one before it in DuckDB; write 1"),
    Rule(
        _unguarded_logarithm,
        "of 0 or less it is NULL in Spark and something else in DuckDB; write CASE WHEN x > 0 THEN ... END",
    ),
    Rule(_other_base, "log(x) is to the base 10 in DuckDB and natural in Spark; write ln or log10", ("duckdb",)),
    Rule(_decimal_quotient, "DuckDB divides decimals as DOUBLE, Spark keeps some digits; CAST to DOUBLE inside"),
    Rule(_number_to_text, "the two write such values as text in other ways"),
    Rule(_steps_of_time, "one counts boundaries that are crossed, the other whole units; count days"),
    Rule(_format_of_time, "this part of the format has another form", ("duckdb",)),
    Rule(
        _all_values,
        "Spark leaves out NULLs, and the order is lost; write FILTER (WHERE x IS NOT NULL), and sort outside",
        ("duckdb",),
    ),
    Rule(_first_match_only, "only the first match is replaced, in Spark every one; add 'g'", ("duckdb",)),
    Rule(_is(exp.ArrayDistinct), "NULLs and the order of the elements differ; sort, and take NULLs out"),
    Rule(_is(exp.IsNan), "of NULL it is false in Spark and NULL in DuckDB; write coalesce(x, 0) inside"),
    Rule(_json_text, "Spark leaves fields out that are NULL"),
    Rule(_is(exp.Skewness, exp.Kurtosis), "one is of the sample, the other of all"),
    Rule(_is(exp.Levenshtein), "DuckDB counts bytes, Spark characters"),
    Rule(_is(exp.Format), "placeholders and NULLs are written in other ways"),
    Rule(_called("printf"), "NULLs are written in other ways"),
    Rule(_called("hash", "xxhash64", "murmur3_32"), "every engine has its own hash; write md5 or sha2"),
    Rule(_is(exp.Typeof), "types have other names"),
    Rule(_is(exp.Dayname, exp.Monthname), "the names are long in DuckDB and short in Spark"),
    Rule(_is(exp.AtTimeZone, exp.FromTimeZone), "moments move the other way"),
    Rule(
        lambda node, types: isinstance(node, exp.Max | exp.Min) and isinstance(node.this, exp.Struct),
        "NULLs inside come first in Spark and last in DuckDB; write max_by or min_by",
    ),
    Rule(_is(exp.Rand, exp.Uuid, exp.TableSample), "it is another one each time, so nothing can be compared"),
)


def _line(node: exp.Expr) -> int:
    """Give the line of a node: its own, that of the first thing in it that has one, or that of what it is in."""
    for inside in node.walk():
        if "line" in inside.meta:
            return int(inside.meta["line"])
    return _line(node.parent) if node.parent is not None else 1


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def lines(found: Iterator[Refusal] | list[Refusal]) -> str:
    """Give refusals for a person."""
    return "\n".join(map(str, found))
