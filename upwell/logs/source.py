"""What a file is, found from its first bytes: CSV or JSON lines (gzip or not) or Parquet; and its columns."""

from __future__ import annotations

import csv
import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, cast

import msgspec
import polars as pl

from upwell.errors import BadRequest

SUFFIXES = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".parquet")
"""Of files taken from a folder. A file named outright may be called anything."""
HEAD = 1 << 20
"""Bytes looked at to find the columns; a header line is never longer."""
PACKED = {
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"\x28\xb5\x2f\xfd": "packed with zstd: unpack it first",
    b"BZh": "packed with bzip2: unpack it first",
    b"\xfd7zXZ": "packed with xz: unpack it first",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
}
Form = Literal["csv", "jsonl", "parquet"]
BROKEN = (EOFError, gzip.BadGzipFile, zlib.error)


@dataclass(frozen=True)
class Source:
    """A file to read. ``name`` is what messages and rejects call it: its path below the folder that was given."""

    path: Path
    name: str
    form: Form
    packed: bool
    columns: tuple[str, ...]
    separator: str = ","


def unpacked(disk: IO[bytes], packed: bool) -> IO[bytes]:
    """What the file holds; ``disk`` keeps telling how far into the file itself reading has come."""
    return cast(IO[bytes], gzip.GzipFile(fileobj=disk)) if packed else disk


def probe(path: Path, name: str, separator: str = ",") -> Source:
    """Look at a file's beginning. Raises BadRequest, saying what it is instead of a table."""
    try:
        with path.open("rb") as disk:
            magic = disk.read(4)
            if magic == b"PAR1":
                return Source(path, name, "parquet", False, tuple(pl.read_parquet_schema(path)))
            packed = magic.startswith(b"\x1f\x8b")
            disk.seek(0)
            head = unpacked(disk, packed).read(HEAD)
    except FileNotFoundError:
        raise BadRequest(f"{path}: no such file") from None
    except BROKEN as error:
        raise BadRequest(f"{path}: the gzip cannot be unpacked ({error}): get the file again") from None
    except pl.exceptions.PolarsError as error:
        raise BadRequest(
            f"{path}: begins like Parquet but cannot be read ({first_line(error)}): get the file again"
        ) from None
    except OSError as error:
        raise BadRequest(f"{path}: cannot be read: {error.strerror}") from None
    if not head.strip():
        raise BadRequest(f"{path}: empty")
    for start, what in PACKED.items():
        if head.startswith(start):
            raise BadRequest(f"{path}: {what}")
    line = first_row(head.removeprefix(b"\xef\xbb\xbf"), path)
    if line.startswith("{"):
        return Source(path, name, "jsonl", packed, keys(head, path))
    return Source(path, name, "csv", packed, header(line, path, separator), separator)


def first_row(head: bytes, path: Path) -> str:
    """The first line. Raises BadRequest if it is no text."""
    line, newline, _ = head.lstrip(b"\r\n").partition(b"\n")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text or (not newline and len(head) >= HEAD):
        raise BadRequest(f"{path}: not a table: expected CSV (UTF-8, a header first), JSON lines or Parquet")
    return text.rstrip("\r")


def header(line: str, path: Path, separator: str) -> tuple[str, ...]:
    """Column names of a CSV. Raises BadRequest."""
    try:
        columns = tuple(name.strip() for name in next(csv.reader([line], delimiter=separator, strict=True)))
    except (csv.Error, StopIteration) as error:
        raise BadRequest(f"{path}: line 1: not a CSV header: {error}") from None
    twice = {name for name in columns if columns.count(name) > 1}
    if twice:
        raise BadRequest(f"{path}: line 1: the header has {sorted(twice)[0]!r} more than once: rename one")
    return columns


def keys(head: bytes, path: Path) -> tuple[str, ...]:
    """Keys seen in the first lines of JSON, in order. Raises BadRequest if the first is no object."""
    lines = head.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    found: dict[str, None] = {}
    for number, line in enumerate(lines if len(head) < HEAD else lines[:-1]):
        try:
            found.update(dict.fromkeys(msgspec.json.decode(line, type=dict[str, object])))
        except msgspec.DecodeError as error:
            if number == 0:
                raise BadRequest(f"{path}: line 1: not JSON lines (one object a line): {error}") from None
    return tuple(found)


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
