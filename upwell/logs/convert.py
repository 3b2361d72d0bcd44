"""Rows as read to rows of our schema; what is at fault is put aside with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from upwell.logs.layout import Field, Layout
from upwell.logs.lines import Bad, Rows
from upwell.logs.parse import as_text, parse
from upwell.logs.schema import DTYPES, TABLES, Column


@dataclass
class Converted:
    """Good rows in the table's schema, a 64-bit key of each for finding repeats, and the others."""

    frame: pl.DataFrame
    keys: np.ndarray
    bad: list[Bad]
    unread: set[str]


def extras(layout: Layout, columns: tuple[str, ...], types: dict[str, Any]) -> dict[str, Any]:
    """Names and types of the columns a file adds to its table; ``types`` are its own (Parquet), else text."""
    kept = {
        name: DTYPES[layout.known[theirs].kind] if theirs in layout.known else types.get(theirs, pl.String)
        for theirs, name in layout.kept(columns).items()
        if theirs not in layout.drops
    }
    return kept | layout.adds


def convert(rows: Rows, layout: Layout, source: int, schema: dict[str, Any]) -> Converted:
    """``schema``: the whole table's, over all its files; columns this file lacks are null."""
    frame = rows.frame
    table, faults = columns_of(frame, layout, schema)
    numbers = pl.Series("source_row", rows.numbers.astype(np.uint32))
    table = table.with_columns(pl.lit(source, pl.UInt16).alias("source"), numbers)
    keys = row_keys(frame, table, layout)
    bad = rows.bad + [Bad(int(rows.numbers[i]), why, frame.row(i, named=True)) for i, why in faults.items()]
    if faults:
        good = np.ones(frame.height, bool)
        good[list(faults)] = False
        table, keys = table.filter(good), keys[good]
    table = layout.finish(table)
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in table.columns]
    return Converted(table.with_columns(absent).select(list(schema)), keys, bad, rows.unread)


def columns_of(frame: pl.DataFrame, layout: Layout, schema: dict[str, Any]) -> tuple[pl.DataFrame, dict[int, str]]:
    """Our columns and those kept, and per row at fault the first thing wrong with it."""
    columns: list[pl.Series] = []
    faults: dict[int, str] = {}

    def take(theirs: str, values: pl.Series, column: Column, field: Field) -> pl.Series:
        parsed, found = parse(values, column, field, layout.missing)
        for mask, what in found:
            for row in mask.arg_true() if mask.any() else ():
                faults.setdefault(row, f"{theirs}: {what}")
        return parsed

    for column in TABLES[layout.table]:
        field = layout.fields.get(column.name)
        if field is not None:
            constant = pl.Series([field.constant]).new_from_index(0, frame.height)
            values = constant if field.column is None else frame[field.column]
            columns.append(take(field.column or column.name, values, column, field).alias(column.name))
    for theirs, name in layout.kept(tuple(frame.columns)).items():
        known = layout.known.get(theirs)
        values = take(theirs, frame[theirs], known, Field()) if known else kept_as(frame[theirs], schema.get(name))
        columns.append(values.alias(name))
    return pl.DataFrame(columns), faults


def kept_as(values: pl.Series, dtype: Any) -> pl.Series:
    """A column of theirs as it is, or as text where its files do not agree on a type."""
    return as_text(values) if dtype in (None, pl.String) else values.cast(dtype)


def row_keys(frame: pl.DataFrame, table: pl.DataFrame, layout: Layout) -> np.ndarray:
    """Equal for rows that repeat each other: interactions in every field as read, the others in their id."""
    if layout.table != "interactions":
        return table[TABLES[layout.table][0].name].hash().to_numpy()
    nested = [as_text(values) for values in frame if values.dtype.is_nested()]
    return frame.with_columns(nested).hash_rows().to_numpy()
