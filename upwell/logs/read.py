"""A file's rows in blocks of bounded memory, whatever its size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, Any, NamedTuple

import msgspec
import numpy as np
import polars as pl

from upwell.errors import BadRequest
from upwell.logs.lines import Bad, Rows, is_plain, is_utf8, plain_rows, quoted_rows, shown
from upwell.logs.source import BROKEN, Source, first_line, unpacked

BLOCK = 8 << 20
"""Bytes of text a block; memory is some tens of times this."""
LONGEST_LINE = 16 << 20
PARQUET_ROWS = 100_000

Step = Callable[[int], None]
"""Told the bytes of the file got through."""


class Place(msgspec.Struct, frozen=True):
    """Where a file is gone on with. Reading from it cuts the rest into the same blocks as reading from the start."""

    at: int = 0
    """Bytes read, of the uncompressed file; of Parquet, rows."""
    tail: int = 0
    """How many of these, the last ones, belong to the next block."""
    line: int = 1
    """Number of the next block's first line."""


class Block(NamedTuple):
    """``rows`` gives its rows and is called in a worker: reading goes on meanwhile. ``after``: the next one's place."""

    rows: Callable[[], Rows]
    after: Place


def blocks(source: Source, start: Place, step: Step) -> Iterator[Block]:
    """Blocks in order. Raises BadRequest where the file breaks off or turns out not to be what it seemed."""
    try:
        if source.form == "parquet":
            yield from parquet_blocks(source, start, step)
        else:
            yield from text_blocks(source, start, step)
    except BROKEN as error:
        raise BadRequest(f"{source.path}: the gzip breaks off or is damaged ({error}): get the file again") from None
    except pl.exceptions.PolarsError as error:
        raise BadRequest(f"{source.path}: damaged Parquet ({first_line(error)}): get the file again") from None


def parquet_blocks(source: Source, start: Place, step: Step) -> Iterator[Block]:
    size, rows = source.path.stat().st_size, pl.scan_parquet(source.path).select(pl.len()).collect().item()
    step(size * start.at // max(rows, 1))
    for first in range(start.at, rows, PARQUET_ROWS):
        frame = pl.scan_parquet(source.path).slice(first, PARQUET_ROWS).collect()
        after = first + frame.height
        yield Block(partial(identity, Rows(frame, np.arange(first, after) + 1)), Place(after))
        step(size * frame.height // rows)


def identity(rows: Rows) -> Rows:
    return rows


def text_blocks(source: Source, start: Place, step: Step) -> Iterator[Block]:
    """Blocks of whole lines. A line's number counts from 1 in the uncompressed file."""
    with source.path.open("rb") as disk:
        file = unpacked(disk, source.packed)
        line, told = start.line, 0
        file.seek(start.at - start.tail)
        tail = file.read(start.tail)
        if start.at == 0 and source.form == "csv":
            line += header_lines(file)
        while True:
            data = file.read(BLOCK)
            told, before = disk.tell(), told
            step(told - before)
            block = tail + data
            cut = block.rfind(b"\n") + 1 if data else len(block)
            block, tail = block[:cut], block[cut:]
            if len(tail) > LONGEST_LINE:
                raise BadRequest(
                    f"{source.path}: line {line}: longer than {LONGEST_LINE >> 20} MB: is it one row a line?"
                )
            if block:
                lines = block.count(b"\n") + (not block.endswith(b"\n"))
                if source.form == "jsonl":
                    rows = partial(json_rows, block, line, source.columns)
                elif is_plain(block):
                    rows = partial(plain_rows, block, line, source.columns, source.separator)
                else:
                    read, left, lines = quoted_rows(block, line, source.columns, source.separator, not data)
                    tail = left + tail
                    rows = partial(identity, read)
                line += lines
                yield Block(rows, Place(file.tell(), len(tail), line))
            if not data:
                return


def header_lines(file: IO[bytes]) -> int:
    """Read past the header and blank lines before it; how many lines that was."""
    for number, line in enumerate(file, 1):
        if line.strip():
            return number
    return 0


def json_rows(block: bytes, first: int, columns: tuple[str, ...]) -> Rows:
    """Rows of JSON lines. Keys beyond ``columns`` are in ``Rows.unread``."""
    objects: list[dict[str, Any]] = []
    numbers: list[int] = []
    bad: list[Bad] = []
    seen: set[str] = set()
    decoder = msgspec.json.Decoder(dict[str, Any])
    for number, line in enumerate(block.removeprefix(b"\xef\xbb\xbf").split(b"\n"), first):
        if not line.strip():
            continue
        try:
            value = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            bad.append(Bad(number, "not a JSON object" if is_utf8(line) else "invalid UTF-8", shown(line)))
            continue
        objects.append(value)
        numbers.append(number)
        seen.update(value)
    frame = pl.DataFrame([json_column(name, [o.get(name) for o in objects]) for name in columns])
    return Rows(frame, np.array(numbers, np.int64), bad, seen.difference(columns))


def json_column(name: str, values: list[Any]) -> pl.Series:
    """Values of one type as they are; values of several as text, lists as lists of text."""
    try:
        return pl.Series(name, values, strict=True)
    except (TypeError, OverflowError, pl.exceptions.PolarsError):
        if all(isinstance(v, list) for v in values if v is not None):
            lists = [None if v is None else [text_of(x) for x in v] for v in values]
            return pl.Series(name, lists, pl.List(pl.String))
        return pl.Series(name, [text_of(v) for v in values], pl.String)


def text_of(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode()
