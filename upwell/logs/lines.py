"""Lines of delimited text to columns of text. Polars fills short rows with nulls and stops at others, so every line's
fields are counted before Polars sees it; what does not fit is put aside with its number and text.

Blank lines hold no row and are not counted.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field

import numpy as np
import polars as pl

LONGEST_RECORD = 100
"""Lines a quoted field may run over. A quote that has not closed by then is taken for a stray one."""


@dataclass(frozen=True)
class Bad:
    """A row that cannot be used: its row number, why, and what stood there."""

    row: int
    reason: str
    raw: str | dict[str, object]


@dataclass
class Rows:
    """Rows as read: a frame, the row number of each, and what could not be made a row."""

    frame: pl.DataFrame
    numbers: np.ndarray
    bad: list[Bad] = field(default_factory=list[Bad])
    unread: set[str] = field(default_factory=set[str])
    """Keys of JSON lines that the first lines did not have: not imported, and said so."""


def shown(line: bytes) -> str:
    """A line for people: what is not UTF-8 as escapes, at most 2,000 characters."""
    return line.rstrip(b"\r\n").decode("utf-8", errors="backslashreplace")[:2_000]


def is_plain(block: bytes) -> bool:
    """Whether every newline ends a row and every separator parts two fields."""
    return b'"' not in block and b"\0" not in block and block.count(b"\r") == block.count(b"\r\n")


def plain_rows(block: bytes, first: int, columns: tuple[str, ...], separator: str) -> Rows:
    """Rows of a block of whole lines without quotes; ``first`` is its first line's number."""
    if not block.endswith(b"\n"):
        block += b"\n"
    data = np.frombuffer(block, np.uint8)
    marks = np.flatnonzero((data == ord(separator)) | (data == 10))
    at_end = np.flatnonzero(data[marks] == 10)
    ends = marks[at_end]
    starts = np.concatenate([[0], ends[:-1] + 1])
    fit = (np.diff(at_end, prepend=-1) == len(columns)) & (ends > starts)
    numbers = first + np.arange(len(ends))
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        foreign = np.unique(np.searchsorted(ends, np.flatnonzero(data >= 128)))
        fit[[i for i in foreign if not is_utf8(block[starts[i] : ends[i]])]] = False
    bad: list[Bad] = []
    if not fit.all():
        spans: list[bytes] = []
        begin = 0
        for i in np.flatnonzero(~fit):
            spans.append(block[begin : starts[i]])
            begin = int(ends[i]) + 1
            line = block[starts[i] : ends[i]]
            if line.strip():
                bad.append(Bad(int(numbers[i]), fault(line, len(columns), separator), shown(line)))
        block = b"".join([*spans, block[begin:]])
        numbers = numbers[fit]
    return Rows(frame(block, columns, separator, len(numbers)), numbers, bad)


def frame(block: bytes, columns: tuple[str, ...], separator: str, height: int) -> pl.DataFrame:
    schema = dict.fromkeys(columns, pl.String)
    if not height:
        return pl.DataFrame(schema=schema)
    read = pl.read_csv(block, has_header=False, schema=schema, separator=separator, quote_char=None)
    if read.height != height:
        raise AssertionError(f"{height} lines became {read.height} rows")
    return read


def is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def fault(line: bytes, width: int, separator: str) -> str:
    if not is_utf8(line):
        return "invalid UTF-8"
    fields = line.count(separator.encode()) + 1
    return f"{'fewer' if fields < width else 'more'} fields than the header"


def quoted_rows(
    block: bytes, first: int, columns: tuple[str, ...], separator: str, last: bool
) -> tuple[Rows, bytes, int]:
    """Rows of a block with quotes, its unfinished end (empty if ``last``) and how many lines were consumed.

    A field may run over lines (``LONGEST_RECORD``); where that does not give a row, only the line with the stray quote
    is rejected.
    """
    lines = block.split(b"\n")
    if not lines[-1]:
        lines.pop()
    records: list[list[str]] = []
    numbers: list[int] = []
    bad: list[Bad] = []
    i = 0
    while i < len(lines):
        line = lines[i].removesuffix(b"\r")
        span = 1
        if line.count(b'"') % 2:
            span = closing(lines, i)
            if not span and not last and len(lines) - i <= LONGEST_RECORD:
                break
            line = b"\n".join(lines[i : i + span]).removesuffix(b"\r") if span else line
            record, why = split(line, len(columns), separator) if span else (None, "a quote that does not close")
            if record is None:
                span, line = 1, lines[i]
        elif not line.strip():
            i += 1
            continue
        else:
            record, why = split(line, len(columns), separator)
        if record is None:
            bad.append(Bad(first + i, why, shown(line)))
        else:
            records.append(record)
            numbers.append(first + i)
        i += span
    held = list(zip(*records, strict=True)) if records else [()] * len(columns)
    table = pl.DataFrame({c: pl.Series(c, v, pl.String) for c, v in zip(columns, held, strict=True)})
    return Rows(table, np.array(numbers, np.int64), bad), b"\n".join(lines[i:]) + b"\n" if i < len(lines) else b"", i


def closing(lines: list[bytes], start: int) -> int:
    """Lines from ``start`` to the one that closes its quote; 0 if none near does."""
    for span in range(2, min(LONGEST_RECORD, len(lines) - start) + 1):
        if lines[start + span - 1].count(b'"') % 2:
            return span
    return 0


def split(line: bytes, width: int, separator: str) -> tuple[list[str] | None, str]:
    """The fields of one record, or why it has none."""
    if b"\0" in line:
        return None, "a zero byte"
    try:
        fields = next(csv.reader([line.decode("utf-8")], delimiter=separator, strict=True))
    except UnicodeDecodeError:
        return None, "invalid UTF-8"
    except (csv.Error, StopIteration):
        return None, "misplaced quotes"
    if len(fields) != width:
        return None, f"{'fewer' if len(fields) < width else 'more'} fields than the header"
    return fields, ""
