"""The normalised data set: every table and column, with unit and meaning, defined once.

``docs/logs.md`` prints these tables; a test holds the two together. Columns of a source that have no place here are
kept beside them under their own name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

SCHEMA_VERSION = 1
FIRST_MS = 946_684_800_000
"""2000-01-01, in Unix milliseconds. Seconds taken for milliseconds land in 1970 and are caught."""
LAST_MS = 4_102_444_800_000
"""2100-01-01, in Unix milliseconds."""
LONGEST_ID = 128
"""Bytes of an id in UTF-8, as in the service."""

Kind = Literal["id", "text", "time", "flag", "number", "integer", "tags"]
Table = Literal["interactions", "contents", "users", "content_statistics"]

DTYPES: dict[Kind, Any] = {
    "id": pl.String,
    "text": pl.String,
    "time": pl.Int64,
    "flag": pl.Boolean,
    "number": pl.Float64,
    "integer": pl.Int64,
    "tags": pl.List(pl.String),
}


@dataclass(frozen=True)
class Column:
    """A column. Outside ``low`` to ``high`` (inclusive; ``above`` is not), in its unit, a row is rejected."""

    name: str
    kind: Kind
    unit: str = ""
    meaning: str = ""
    required: bool = False
    low: float | None = None
    high: float | None = None
    above: float | None = None


INTERACTIONS = (
    Column("user_id", "id", "", "who", required=True),
    Column("content_id", "id", "", "what was shown", required=True),
    Column("ts", "time", "Unix ms", "when it was shown", required=True, low=FIRST_MS, high=LAST_MS),
    Column("exposure", "text", "", "what chose it: `standard`, `random`, `bts`, …; `unknown` where nothing says"),
    Column("position", "integer", "", "place in the slate, as logged", low=0),
    Column(
        "propensity", "number", "probability", "of this content at this place; null where not logged", high=1, above=0
    ),
    Column("clicked", "flag", "", "clicked, or began to watch", required=True),
    Column("dwell_s", "number", "s", "time spent", low=0),
    Column("completion", "number", "share", "dwell over duration; above 1 when watched again", low=0),
    Column("shared", "flag", "", "shared or forwarded"),
    Column("liked", "flag", "", "liked"),
    Column("followed", "flag", "", "followed the creator"),
    Column("purchased", "flag", "", "bought"),
    Column("value", "number", "yuan", "of what was bought", low=0),
)

CONTENTS = (
    Column("content_id", "id", "", "unique", required=True),
    Column("creator_id", "id", "", "who made it"),
    Column("published_at", "time", "Unix ms", "when it came out", low=FIRST_MS, high=LAST_MS),
    Column("duration_s", "number", "s", "length", low=0),
    Column("tags", "tags", "", "its tags; empty where it has none, null where the source has no tags at all"),
    Column("title", "text", "", "title"),
    Column("category", "text", "", "category"),
    Column("price", "number", "yuan", "price", low=0),
    Column("creator_followers", "integer", "users", "followers of its creator", low=0),
)

USERS = (
    Column("user_id", "id", "", "unique", required=True),
    Column("created_at", "time", "Unix ms", "when the user joined", low=FIRST_MS, high=LAST_MS),
)

CONTENT_STATISTICS = (Column("content_id", "id", "", "unique", required=True),)

TABLES: dict[Table, tuple[Column, ...]] = {
    "interactions": INTERACTIONS,
    "contents": CONTENTS,
    "users": USERS,
    "content_statistics": CONTENT_STATISTICS,
}

LINEAGE: dict[str, Any] = {"source": pl.UInt16, "source_row": pl.UInt32}
"""Last two columns of every imported table: index into ``sources`` of dataset.json, and the row there. CSV and JSON
lines: the number of its line in the uncompressed file, the first line being 1, so that data under a header begins at 2.
Parquet: the number of its row, from 1."""


def frame_schema(table: Table, extras: dict[str, Any]) -> dict[str, Any]:
    """Names and Polars types of a table: ours, the source's own columns ``extras``, then the lineage."""
    return {column.name: DTYPES[column.kind] for column in TABLES[table]} | extras | LINEAGE
