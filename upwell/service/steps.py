"""What of the log changes a user's record, step by step: an account told of, a slate shown, a click, a valid view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from upwell.service import fold, records
from upwell.service.keys import decision_keys
from upwell.service.records import key_of
from upwell.service.settings import Settings
from upwell.service.tables import NOBODY, Contents, Users

ACCOUNT, SLATE, CLICK, ELSEWHERE, VIEW = range(5)
"""Kinds of a step; a click elsewhere is on something that was seen without a slate of ours, a view a valid one."""
NO_CONTENT, NOT_KNOWN = -1, -2
"""In place of a content's row: an empty place, and a content that is not known."""


class Step(NamedTuple):
    """One change of a record. ``key``: of the slate, or of what was seen elsewhere (``keys.organic_key``)."""

    at_ms: int
    kind: int
    key: str
    content: str  # that was clicked or viewed
    told: float  # account: when it was made, ms; slate: click rate that a new user begins with; click, view: shown, ms
    ids: tuple[str, ...] | None = None  # contents of the slate; None: see ``Memory.slates``

    @property
    def order(self) -> tuple[int, int]:
        """What steps are sorted by: of one time accounts, slates, clicks."""
        return self.at_ms, min(self.kind, CLICK)


Slates = Sequence[tuple[str, Step, tuple[str, ...]]]
"""Slates that were shown: to whom, the step, its contents."""


def show(settings: Settings, users: Users, contents: Contents, slates: Slates) -> None:
    """Change records by slates of different users, all at once: each as if it came alone."""
    place = np.fromiter([_row(settings, users, name, step) for name, step, _ in slates], np.int64, len(slates))
    now_ms = np.fromiter([step.at_ms for _, step, _ in slates], np.int64, len(slates))
    rows = np.full((len(slates), max(len(ids) for _, _, ids in slates)), NO_CONTENT, np.int32)
    keys = np.zeros(rows.shape, np.uint32)
    for b, (_, _, ids) in enumerate(slates):
        rows[b, : len(ids)] = rows_of_slate(contents, ids)[0]
        keys[b, : len(ids)] = [key_of(id) for id in ids]
    arrived = fold.arrive(settings, users.record[place], now_ms)
    fold.seen(users, contents, place, arrived, decision_keys(step.key for _, step, _ in slates), rows, keys, now_ms)


def play(settings: Settings, users: Users, contents: Contents, name: str, step: Step) -> None:
    """Change a user's record by a step that is no slate."""
    row = _row(settings, users, name, step)
    if step.kind == ACCOUNT:
        users.record["created_ms"][row] = int(step.told)
        users.dirty.add(row)
    elif step.kind == VIEW:
        fold.viewed(users, contents, row, contents.rows.at.get(step.content, NOBODY), int(step.told))
    else:
        decision = int(decision_keys([step.key])[0]) if step.kind == CLICK else 0
        content = contents.rows.at.get(step.content, NOBODY)
        fold.clicked(users, contents, row, content, decision, int(step.told))


def _row(settings: Settings, users: Users, name: str, step: Step) -> int:
    """The user's row; who is not known begins with this step."""
    row = users.rows.at.get(name)
    if row is not None:
        return row
    slate = step.kind == SLATE
    created_ms, expected = (step.at_ms, step.told) if slate else (int(step.told), settings.click_rate)
    return users.put(name, records.new_user(created_ms, expected))


def rows_of_slate(contents: Contents, ids: tuple[str, ...]) -> np.ndarray:
    """Rows of a slate's contents, i32 ``[1, K]``; ``NOT_KNOWN`` where there is none."""
    get = contents.rows.at.get
    return np.asarray([[get(id, NOT_KNOWN) for id in ids]], np.int32).reshape(1, -1)
