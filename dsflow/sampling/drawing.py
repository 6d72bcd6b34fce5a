"""Which rows of a source are its sample, as one SELECT for DuckDB: first the filter, then the sample of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dsflow.sampling.keys import chosen, quoted

_HASHES = 2**64


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a sample is. Without anything it is all rows.

    Attributes:
        filter: A SQL condition over the columns.
        rows: So many rows.
        share: Such a share of the rows, or of the values of `key`.
        key: The columns whose values are chosen.
        seed: Another one, other rows.
        stratify: A column each of whose values is sampled by itself.
        of: The tables of values that a key must be in, one of them at least; their columns are k0, k1...
    """

    filter: str = ""
    rows: int | None = None
    share: float | None = None
    key: tuple[str, ...] = ()
    seed: int = 0
    stratify: str | None = None
    of: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left out."""
        return not self.filter and self.rows is None and self.share in (None, 1) and not self.of


def select(rule: Rule, table: str = "source") -> str:
    """Give the SELECT for the rows of a table that are its sample.

    Args:
        rule: What the sample is.
        table: The table.
    """
    conditions = [f"(\n{rule.filter}\n)"] if rule.filter else []
    end = ""
    if rule.of:
        conditions.append("(" + " OR ".join(_among(rule.key, table, values) for values in rule.of) + ")")
    elif rule.key:
        conditions.append(chosen(rule.key, 1.0 if rule.share is None else rule.share, rule.seed))
    elif rule.stratify is not None:
        end = f" QUALIFY {_place(rule, table)} <= {_most(rule)}"
    elif rule.rows is not None:
        end = f" ORDER BY {_hash(rule, table)} LIMIT {rule.rows:d}"
    elif rule.share is not None and rule.share < 1:
        conditions.append(f"{_hash(rule, table)} < {int(rule.share * _HASHES):d}")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT * FROM {quoted(table)}{where}{end}"


def values_of(columns: Sequence[str], table: str) -> str:
    """Give the SELECT for the values of a key in a table, as `Rule.of` needs them."""
    named = ", ".join(f"{quoted(column)} AS k{number}" for number, column in enumerate(columns))
    return f"SELECT DISTINCT {named} FROM {quoted(table)}"


def _among(columns: Sequence[str], table: str, values: str) -> str:
    same = (f"{quoted(values)}.k{number} = {quoted(table)}.{quoted(column)}" for number, column in enumerate(columns))
    return f"EXISTS (SELECT 1 FROM {quoted(values)} WHERE {' AND '.join(same)})"


def _hash(rule: Rule, table: str) -> str:
    return f"hash({quoted(table)}, {rule.seed:d})"


def _place(rule: Rule, table: str) -> str:
    return f"row_number() OVER (PARTITION BY {quoted(rule.stratify or '')} ORDER BY {_hash(rule, table)})"


def _most(rule: Rule) -> str:
    """Give how many rows of a value are kept; one at least, so that none is lost."""
    own = f"count(*) OVER (PARTITION BY {quoted(rule.stratify or '')})"
    share = f"{rule.share!r}" if rule.rows is None else f"{rule.rows:d} / count(*) OVER ()"
    return f"ceil({own} * {share})"
