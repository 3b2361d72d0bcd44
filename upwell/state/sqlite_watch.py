"""Changes that others made to a SQLite file."""

from __future__ import annotations

import time
from collections.abc import Sequence

from upwell.state.batch import Kind
from upwell.state.port import EVERYTHING, Changes
from upwell.state.sqlite_file import Link
from upwell.state.sqlite_write import unpack_touched

LOOK_S = 0.02  # between two looks at the file


class SqliteWatcher:
    """See ``Watcher``. A look costs some microseconds: data_version tells whether anybody committed at all."""

    def __init__(self, link: Link, writer: int, kinds: Sequence[Kind]) -> None:
        self._link = link
        self._writer = writer
        self._kinds = set(kinds)
        self._version = -1
        with link.use() as db:
            self._seen: int = db.execute("SELECT coalesce(max(seq), 0) FROM changes").fetchone()[0]

    def poll(self, timeout_s: float) -> Changes:
        deadline = time.monotonic() + timeout_s
        while not (news := self._news()) and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(LOOK_S, left))
        return news

    def close(self) -> None:
        self._link.close()

    def _news(self) -> Changes:
        with self._link.use() as db:
            (version,) = db.execute("PRAGMA data_version").fetchone()
            if version == self._version:
                return set()
            rows = db.execute(
                "SELECT seq, writer, body FROM changes WHERE seq > ? ORDER BY seq", (self._seen,)
            ).fetchall()
            self._version = version
        lost = bool(rows) and rows[0][0] != self._seen + 1  # numbers have no gaps: what lies between was trimmed
        self._seen = rows[-1][0] if rows else self._seen
        others = [body for _, writer, body in rows if writer != self._writer]
        if lost or None in others:
            return EVERYTHING
        touched = [unpack_touched(body) for body in others]
        return {(kind, id) for ids in touched for kind in self._kinds for id in ids.get(kind, ())}
