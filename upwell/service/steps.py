"""What of the log changes a user's record, step by step: an account told of, a slate shown, a click."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from upwell.service import fold, records
from upwell.service.keys import decision_keys
from upwell.service.records import key_of
from upwell.service.settings import Settings
from upwell.service.tables import NOBODY, Contents, Users

ACCOUNT, SLATE, CLICK, ELSEWHERE = range(4)
"""Kinds of a step; a click elsewhere is on something that was seen without a slate of ours."""
NOT_KNOWN = -2
"""In place of a content's row: none that is known."""


class Step(NamedTuple):
    """One change of a record. ``key``: of the slate, or of what was seen elsewhere (``keys.organic_key``)."""

    at_ms: int
    kind: int
    key: str
    content: str  # that was clicked
    told: float  # account: when it was made, ms; slate: click rate that a new user begins with; click: when shown, ms
    ids: tuple[str, ...] | None = None  # contents of the slate; None: see ``Live.slates``

    @property
    def order(self) -> tuple[int, int]:
        """What steps are sorted by: of one time accounts, slates, clicks."""
        return self.at_ms, min(self.kind, CLICK)


def play(settings: Settings, users: Users, contents: Contents, name: str, step: Step, ids: tuple[str, ...]) -> None:
    """Change a user's record by one step; who is not known begins with it. ``ids``: contents of its slate."""
    row = users.rows.at.get(name)
    if row is None:
        slate = step.kind == SLATE
        created_ms, expected = (step.at_ms, step.told) if slate else (int(step.told), settings.click_rate)
        row = users.put(name, records.new_user(created_ms, expected))
    if step.kind == SLATE:
        place = np.asarray([row])
        arrived = fold.arrive(settings, users.record[place], step.at_ms)
        rows = rows_of_slate(contents, ids)
        keys = np.asarray([[key_of(id) for id in ids]], np.uint32).reshape(1, -1)
        fold.seen(users, contents, place, arrived, decision_keys([step.key]), rows, keys, np.asarray([step.at_ms]))
    elif step.kind == ACCOUNT:
        users.record["created_ms"][row] = int(step.told)
        users.dirty.add(row)
    else:
        decision = int(decision_keys([step.key])[0]) if step.kind == CLICK else 0
        content = contents.rows.at.get(step.content, NOBODY)
        fold.clicked(users, contents, row, content, decision, int(step.told))


def rows_of_slate(contents: Contents, ids: tuple[str, ...]) -> np.ndarray:
    """Rows of a slate's contents, i32 ``[1, K]``; ``NOT_KNOWN`` where there is none."""
    get = contents.rows.at.get
    return np.asarray([[get(id, NOT_KNOWN) for id in ids]], np.int32).reshape(1, -1)
