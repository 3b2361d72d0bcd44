"""One column of theirs to one type of ours. Each parser gives the values, null where they say nothing, and the rows at
fault with the reason. Text, numbers, JSON values and Parquet types all come through here."""

from __future__ import annotations

from typing import Any

import msgspec
import polars as pl

from upwell.logs.layout import Field
from upwell.logs.schema import LONGEST_ID, Column

Fault = tuple[pl.Series, str]
"""Boolean mask of rows, and what is wrong with them."""
Parsed = tuple[pl.Series, list[Fault]]
Missing = tuple[str, ...]

PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
WORDS = {"true": True, "false": False, "yes": True, "no": False, "t": True, "f": False, "y": True, "n": False}
ISO = ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")


def parse(values: pl.Series, column: Column, field: Field, missing: Missing) -> Parsed:
    """Values of ``column`` out of theirs, with every fault: unreadable, missing though required, out of bounds."""
    parsed, faults = PARSERS[column.kind](values, field, missing)
    if column.required:
        faults.append((parsed.is_null(), "missing"))
    if column.low is not None or column.above is not None:
        faults.append(bounds(parsed, column))
    return parsed, faults


def bounds(parsed: pl.Series, column: Column) -> Fault:
    """Rows outside the column's bounds; null is inside."""
    low, high = column.low or 0.0, column.high
    outside = parsed <= column.above if column.above is not None else parsed < low
    if high is None:
        return outside, "negative"
    outside |= parsed > high
    if column.kind == "time":
        return outside, "outside the years 2000 to 2099"
    return (
        outside,
        f"outside ({column.above:g}, {high:g}]" if column.above is not None else f"outside {low:g} to {high:g}",
    )


def clean(values: pl.Series, missing: Missing) -> pl.Series:
    """Any type as text without surrounding blanks; null where it is one of ``missing``."""
    text = as_text(values).str.strip_chars()
    return text.set(text.is_in(missing), None)


def as_text(values: pl.Series) -> pl.Series:
    """Any type as text: whole numbers without a decimal point, nested values as JSON."""
    if values.dtype == pl.String:
        return values
    if values.dtype.is_float():
        whole = values.cast(pl.Int64, strict=False)
        return whole.cast(pl.String) if (whole == values).all() else values.cast(pl.String)
    if values.dtype.is_nested():
        text = [None if v is None else msgspec.json.encode(v, enc_hook=str).decode() for v in values.to_list()]
        return pl.Series(values.name, text, pl.String)
    return values.cast(pl.String)


def parse_text(values: pl.Series, field: Field, missing: Missing) -> Parsed:
    return clean(values, missing), []


def parse_id(values: pl.Series, field: Field, missing: Missing) -> Parsed:
    text = clean(values, missing)
    faults = [(text.str.len_bytes() > LONGEST_ID, f"longer than {LONGEST_ID} bytes")]
    if field.digits:
        faults.append((~text.str.contains(r"^[0-9]+$"), "not a whole number"))
    return field.prefix + text if field.prefix else text, faults


def parse_number(values: pl.Series, field: Field, missing: Missing) -> Parsed:
    number, unreadable = numeric(values, pl.Float64, missing)
    faults = [(unreadable | ~number.is_finite(), "not a finite number")]
    return number * field.scale if field.scale != 1.0 else number, faults


def parse_integer(values: pl.Series, field: Field, missing: Missing) -> Parsed:
    number, unreadable = numeric(values, pl.Int64, missing)
    return number, [(unreadable, "not a whole number")]


def numeric(values: pl.Series, dtype: Any, missing: Missing) -> tuple[pl.Series, pl.Series]:
    """Numbers, and the mask of what is none. A quick cast comes first; only what it cannot read is looked at again."""
    if values.dtype.is_nested() or values.dtype == pl.Boolean:
        return pl.Series(values.name, [None], dtype).new_from_index(0, len(values)), values.is_not_null()
    number = values.cast(dtype, strict=False)
    unreadable = number.is_null() & values.is_not_null()
    if values.dtype.is_float() and dtype == pl.Int64:
        unreadable |= (number != values).fill_null(False)
    doubtful = unreadable.arg_true()
    if len(doubtful):
        text = clean(values.gather(doubtful), missing)
        again = text.cast(pl.Float64, strict=False)
        if dtype == pl.Int64:
            whole = again.cast(pl.Int64, strict=False)
            again = whole.set((whole != again).fill_null(False), None)
        number = number.scatter(doubtful, again)
        unreadable = unreadable.scatter(doubtful, text.is_not_null() & again.is_null())
    for code in (int(text) for text in missing if text.lstrip("+-").isdigit()):
        number = number.set(number == code, None)
    if dtype == pl.Float64 and any(text.lower() == "nan" for text in missing):
        number = number.set(number.is_nan(), None)
    return number, unreadable


def parse_flag(values: pl.Series, field: Field, missing: Missing) -> Parsed:
    if values.dtype == pl.Boolean:
        return values, []
    number, unreadable = numeric(values, pl.Int64, missing)
    wrong = unreadable | ~number.is_in([0, 1]).fill_null(True)
    flag = (number == 1).set(wrong, None)
    rows = unreadable.arg_true()
    if len(rows):
        said = clean(values.gather(rows), missing).str.to_lowercase()
        meant = said.replace_strict(WORDS, default=None, return_dtype=pl.Boolean)
        flag, wrong = flag.scatter(rows, meant), wrong.scatter(rows, meant.is_null())
    return flag, [(wrong, "not 0 or 1")]


def parse_time(values: pl.Series, field: Field, missing: Missing) -> Parsed:
    """Unix milliseconds out of numbers in ``unit``, text in ``format``, or Parquet's dates and times."""
    if values.dtype == pl.Date or isinstance(values.dtype, pl.Datetime):
        return epoch(values.cast(pl.Datetime("us")) if values.dtype == pl.Date else values, field.zone), []
    if field.format is None:
        return numeric_time(values, PER_SECOND[field.unit], missing)
    text = clean(values, missing)
    patterns = (field.format,)
    if field.format == "iso":
        patterns, text = ISO, text.str.replace("T", " ", literal=True).str.replace("Z", "+00:00", literal=True)
    moment = pl.Series(values.name, [None], pl.Int64).new_from_index(0, len(values))
    for pattern in patterns:
        left = (moment.is_null() & text.is_not_null()).arg_true()
        if len(left):
            read = text.gather(left).str.to_datetime(pattern, strict=False, time_unit="us")
            moment = moment.scatter(left, epoch(read, field.zone))
    return moment, [(moment.is_null() & text.is_not_null(), "not a time")]


def numeric_time(values: pl.Series, per_second: int, missing: Missing) -> Parsed:
    number, unreadable = numeric(values, pl.Float64 if per_second == 1 else pl.Int64, missing)
    if per_second == 1:
        moment = (number * 1_000).round().cast(pl.Int64, strict=False)
        unreadable |= number.is_not_null() & moment.is_null()
    else:
        moment = number // (per_second // 1_000)
    return moment, [(unreadable, f"not a time in {'seconds' if per_second == 1 else 'whole units'}")]


def epoch(moments: pl.Series, zone: str) -> pl.Series:
    """Unix milliseconds of dates with times; without a zone of their own they are in ``zone``."""
    if isinstance(moments.dtype, pl.Datetime) and moments.dtype.time_zone is None:
        moments = moments.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return moments.dt.epoch("ms")


def parse_tags(values: pl.Series, field: Field, missing: Missing) -> Parsed:
    """A list of tags without blanks or empties; none is an empty list, never null."""
    if not isinstance(values.dtype, pl.List):
        values = clean(values, missing).str.split(field.separator)
    tags = values.cast(pl.List(pl.String)).list.eval(pl.element().str.strip_chars())
    tags = tags.list.eval(pl.element().filter(~pl.element().is_in(["", *missing])))
    return tags.fill_null(pl.lit([], dtype=pl.List(pl.String))) if tags.null_count() else tags, []


PARSERS = {
    "id": parse_id,
    "text": parse_text,
    "number": parse_number,
    "integer": parse_integer,
    "flag": parse_flag,
    "time": parse_time,
    "tags": parse_tags,
}
