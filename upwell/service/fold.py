"""How shown slates and interactions change what is known of users and contents.

State is a fold over the log: the same entries in the same order give the same state, however they were batched. A
slate is *open* until its user's next one. The record holds the mind as it was before the open slate's outcome, and that
outcome so far; what the user feels now is ``arrive``: the one update for the slate (``agents.mind``) applied, then
recovery. So a click counts for the next request at once, and a slate that nobody touched counts as a miss when the
next one comes. Events of older slates count for contents, profile and history; the mind has moved on.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from upwell.agents import mind, user
from upwell.service.records import COLUMN, CYCLE_DAYS, RING, TAGS, WEEK_DAYS
from upwell.service.settings import Settings
from upwell.service.tables import NOBODY, Contents, Users

MIND = mind.MindRules()
HOUR_MS = 3_600_000
RECENT_STEP, RECENT_HALF_LIFE_H = 0.05, 48.0
"""The reference platform's: what a user was lately shown, as a fading mean."""
TASTE_RATE = 0.12
"""How far a click moves a profile, as the reference platform's ranker has it."""
DAY_MS = 86_400_000
NEW_MS = 3 * DAY_MS

COUNTED = [COLUMN[name] for name in ("impressions", "heated", "explored")]
Records = npt.NDArray[np.void]


def arrive(settings: Settings, record: Records, now_ms: int | npt.NDArray[np.int64]) -> Records:
    """Users' records ``[B]`` as they are when a request comes, a copy: the open slate is closed, time has gone by, and
    the ring begins anew with each no-repeat window."""
    now = record.copy()
    elapsed_h = np.maximum(now_ms - record["visited_ms"], 0) / HOUR_MS
    opened = record["open_size"] > 0
    size = np.maximum(record["open_size"], 1).astype(np.float32)
    clicks = record["open_clicks"].astype(np.float32)
    after = mind.update(
        np, record["mind"], clicks, record["expected"] * size, record["open_clicked_new"] > 0,
        record["open_similarity"], MIND,
    )  # fmt: skip
    feeling = np.where(opened[:, None], after, record["mind"])
    seen_before = record["visited_ms"] > 0
    now["mind"] = np.where(seen_before[:, None], mind.recover(np, feeling, elapsed_h, MIND), feeling)
    expected = user.expected_after(record["expected"], clicks, size)
    now["expected"] = np.where(opened, expected, record["expected"])
    now["open_decision"], now["open_size"], now["open_clicks"], now["open_clicked_new"] = 0, 0, 0, 0
    faded = np.exp2(-elapsed_h / RECENT_HALF_LIFE_H).astype(np.float32)
    now["recent"] = record["recent"].astype(np.float32) * faded[:, None]
    window = np.asarray(now_ms // (settings.no_repeat_h * HOUR_MS)).astype(np.uint32)
    anew = record["ring_window"] != window
    if anew.any():
        now["ring"][anew], now["ring_at"][anew] = 0, 0
        now["ring_window"] = window
    now["engaged"] = fresh(record, now_ms)
    return now


def marks(engaged: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """The four bits of each tag ``[..., TAGS]``."""
    return np.stack([engaged & 15, engaged >> 4], axis=-1).reshape(*engaged.shape[:-1], TAGS).astype(np.int64)


def days_since(engaged: npt.NDArray[np.uint8], day: int | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Days since each tag ``[..., TAGS]`` was engaged, modulo ``CYCLE_DAYS``; ``CYCLE_DAYS`` where it never was."""
    each = marks(engaged)
    return np.where(each > 0, (np.asarray(day)[..., None] - (each - 1)) % CYCLE_DAYS, CYCLE_DAYS)


def fresh(record: Records, now_ms: int | npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Records' engaged tags ``[B, TAGS // 2]`` without those of a week ago and more.

    They are cleared at every slate, so that none is there for long enough to be taken for a later one.
    """
    day, visited = np.asarray(now_ms // DAY_MS), record["visited_ms"] // DAY_MS
    kept = (days_since(record["engaged"], day) < WEEK_DAYS) & (day - visited < WEEK_DAYS)[:, None]
    return record["engaged"] & (kept[:, 0::2] * np.uint8(15) | kept[:, 1::2] * np.uint8(240))


def engaged(record: Records) -> npt.NDArray[np.uint64]:
    """Tags that users engaged within a week, a bit each, ``[B]``; of records as they ``arrive``."""
    return np.packbits(marks(record["engaged"]) > 0, axis=-1, bitorder="little").view("<u8")[:, 0]


def viewed(users: Users, contents: Contents, row: int, content: int, shown_ms: int) -> None:
    """A content was viewed validly: its tags are engaged, since the day that it was shown on."""
    bits = int(contents.tag_bits[content])
    while bits:
        engage(users.record[row], bits.bit_length() - 1, shown_ms // DAY_MS)
        bits &= ~(1 << (bits.bit_length() - 1))
    users.dirty.add(row)


def engage(record: np.void | npt.NDArray[np.void], tag: int, day: int) -> None:
    """Mark a tag, by its hash, as engaged on ``day``: of two days the later one, whichever is told of first."""
    byte, shift = tag // 2, tag % 2 * 4
    held = int(record["engaged"][byte])
    old = held >> shift & 15
    if not old or (day - (old - 1)) % CYCLE_DAYS <= CYCLE_DAYS // 2:  # the later lies less than half a cycle ahead
        record["engaged"][byte] = held & ~(15 << shift) | (day % CYCLE_DAYS + 1) << shift


def seen(
    users: Users,
    contents: Contents,
    place: npt.NDArray[np.int64],
    arrived: Records,
    decision: npt.NDArray[np.uint64],
    rows: npt.NDArray[np.int32],
    keys: npt.NDArray[np.uint32],
    now_ms: int | npt.NDArray[np.int64],
) -> None:
    """Slates were shown: each user's slate is open from now on.

    Args:
        place: users' rows ``[B]``, none twice.
        arrived: their records at the time of the request (``arrive``).
        decision: keys ``[B]``.
        rows, keys: ``[B, K]``; a row of -1 is an empty place, below -1 a content not known.
    """
    filled = rows != -1
    known = np.maximum(rows, NOBODY)
    embedding = contents.embedding[known]
    recent = arrived["recent"].astype(np.float32)
    size = filled.sum(-1)
    # Each place by itself, and added up one after the other: the same to the last bit however many empty places a
    # batch has room for.
    each = user.familiarity(np, embedding[:, :, None, :], recent[:, None, :]) * filled
    arrived["open_similarity"] = np.cumsum(each, -1)[:, -1] / np.maximum(size, 1) if rows.shape[1] else 0.0
    step = ((embedding - recent[:, None, :]) * filled[..., None]).sum(1)
    arrived["recent"] = recent + RECENT_STEP * step
    arrived["open_decision"], arrived["open_size"] = decision, np.minimum(size, 255)
    days = np.asarray(now_ms) // DAY_MS - arrived["visited_ms"] // DAY_MS
    arrived["came"] = np.where(arrived["visited_ms"] > 0, came_after(arrived["came"], days), 0)
    arrived["visited_ms"] = now_ms
    arrived["requests"] += 1
    which, k = np.nonzero(filled)
    nth = np.cumsum(filled, -1)[which, k] - 1
    at = arrived["ring_at"].astype(np.int64)
    arrived["ring"][which, (at[which] + nth) % RING] = np.maximum(keys.astype(np.uint16), 1)[which, k]
    arrived["ring_at"] = (at + size) % RING
    users.record[place] = arrived
    users.dirty.update(place.tolist())


def came_after(came: npt.NDArray[np.uint8], days: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """On which of the last eight days users had come, ``days`` after the day of their last visit ``[B]``."""
    later = np.clip(days, 1, 9)  # more than eight days ago is forgotten; what is told of late changes nothing
    shifted = (came.astype(np.int64) << 1 | 1) << (later - 1) & 255
    return np.where(days > 0, shifted, came).astype(np.uint8)


def counted(
    contents: Contents,
    rows: npt.NDArray[np.int32],
    heated: npt.NDArray[np.bool_],
    explored: npt.NDArray[np.bool_],
    purse: str = "",
) -> None:
    """Slates were shown: their impressions are counted. ``[B, K]`` each, ``rows`` as ``seen`` takes them.

    ``purse``: what paid for those that are heated.
    """
    known = np.maximum(rows, NOBODY)
    here = known != NOBODY  # filled, and by a content that is known
    each = [known[here], known[here & heated], known[here & explored]]
    contents.count_each(np.concatenate(each), np.repeat(COUNTED, [len(one) for one in each]))
    if purse:
        contents.spend(purse, each[1])


def clicked(users: Users, contents: Contents, row: int, content: int, decision: int, shown_ms: int) -> None:
    """One more click of a user: the profile moves towards it, and the open slate's outcome has it.

    Whether the content counts as new is asked of the time it was shown at, so that the order of events is all one.
    """
    record = users.record
    if content > NOBODY:
        profile = record["profile"][row].astype(np.float32)
        record["profile"][row] = profile + user.taste_step(profile, contents.embedding[content], TASTE_RATE)
    if record["open_decision"][row] == decision and decision:
        record["open_clicks"][row] = min(int(record["open_clicks"][row]) + 1, 255)
        if content > NOBODY and contents.published_ms[content] > shown_ms - NEW_MS:
            record["open_clicked_new"][row] = 1
    users.dirty.add(row)
