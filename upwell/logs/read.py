"""A file's rows in blocks of bounded memory, whatever its size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, Any

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

Block = Callable[[], Rows]
"""Gives a block's rows. Called in a worker: reading goes on meanwhile."""
Step = Callable[[int], None]
"""Told the bytes of the file got through."""


def blocks(source: Source, step: Step) -> Iterator[Block]:
    """Blocks in order. Raises BadRequest where the file breaks off or turns out not to be what it seemed."""
    try:
        if source.form == "parquet":
            yield from parquet_blocks(source, step)
        else:
            yield from text_blocks(source, step)
    except BROKEN as error:
        raise BadRequest(f"{source.path}: the gzip breaks off or is damaged ({error}): get the file again") from None
    except pl.exceptions.PolarsError as error:
        raise BadRequest(f"{source.path}: damaged Parquet ({first_line(error)}): get the file again") from None


def parquet_blocks(source: Source, step: Step) -> Iterator[Block]:
    size, rows = source.path.stat().st_size, pl.scan_parquet(source.path).select(pl.len()).collect().item()
    for start in range(0, rows, PARQUET_ROWS):
        frame = pl.scan_parquet(source.path).slice(start, PARQUET_ROWS).collect()
        yield partial(identity, Rows(frame, np.arange(start, start + frame.height) + 1))
        step(size * min(PARQUET_ROWS, rows - start) // rows)


def identity(rows: Rows) -> Rows:
    return rows


def text_blocks(source: Source, step: Step) -> Iterator[Block]:
    """Blocks of whole lines. A line's number counts from 1 in the uncompressed file."""
    with source.path.open("rb") as disk:
        file = unpacked(disk, source.packed)
        tail, line, told = b"", 1, 0
        if source.form == "csv":
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
                    yield partial(json_rows, block, line, source.columns)
                elif is_plain(block):
                    yield partial(plain_rows, block, line, source.columns, source.separator)
                else:
                    rows, left, lines = quoted_rows(block, line, source.columns, source.separator, not data)
                    tail = left + tail
                    yield partial(identity, rows)
                line += lines
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
