"""How one kind of file becomes one of our tables: what a reader of a format has to say, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from upwell.logs.schema import TABLES, Column, Table


@dataclass(frozen=True)
class Field:
    """Where a column of ours comes from: a ``column`` of theirs, or a ``constant`` for every row."""

    column: str | None = None
    constant: str | int | float | bool | None = None
    scale: float = 1.0
    """Numbers are multiplied by it."""
    unit: str = "ms"
    """Of a time given as a number: s, ms, us or ns since 1970."""
    format: str | None = None
    """Of a time given as text: ``iso``, or a strftime pattern."""
    zone: str = "UTC"
    """Of times whose text does not name one."""
    separator: str = ","
    """Between tags."""
    digits: bool = False
    """Ids that must be whole numbers."""
    prefix: str = ""
    """Put before an id that is unique only together with it."""


def _same(frame: pl.DataFrame) -> pl.DataFrame:
    return frame


@dataclass(frozen=True)
class Layout:
    """One kind of file. ``known`` types the source's own columns that are kept; others are kept as they are."""

    table: Table
    fields: dict[str, Field]
    known: dict[str, Column] = field(default_factory=dict[str, Column])
    keep: frozenset[str] = frozenset()
    """Columns of theirs that stay although a field reads them, since ours says less."""
    missing: tuple[str, ...] = ("",)
    """Texts that mean: not known."""
    separator: str = ","
    finish: Callable[[pl.DataFrame], pl.DataFrame] = _same
    """Last step, on good rows: columns of ours that are computed from others."""
    adds: dict[str, Any] = field(default_factory=dict[str, Any])
    """Columns that ``finish`` adds beyond the schema, with their types."""
    drops: frozenset[str] = frozenset()
    """Columns of theirs that ``finish`` has taken in."""

    def renamed(self) -> dict[str, str]:
        """Their name to ours, of columns that are not kept under their own."""
        taken = {f.column: ours for ours, f in self.fields.items() if f.column is not None}
        return {theirs: ours for theirs, ours in taken.items() if theirs != ours and theirs not in self.keep}

    def kept(self, columns: tuple[str, ...]) -> dict[str, str]:
        """Their columns that stay, to the name they stay under: their own, unless ours has that name already."""
        used = {f.column for f in self.fields.values()} - self.keep
        ours = {column.name for column in TABLES[self.table]}
        return {c: f"source_{c}" if c in ours else c or "row_index" for c in columns if c not in used}
