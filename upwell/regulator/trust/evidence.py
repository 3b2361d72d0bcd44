"""What is kept of each content, creator and account to judge them by: sums, in batches, one pass over the events.

A *direct* visit is one that no feed sent: by search, by a shared link, from a creator's page. Bought clicks are direct
visits, since a buyer cannot make the ranker show; honest contents get them too. What the feed itself brings is the
yardstick: the ranker chose who saw the content, and not the content.

All arrays have one row more than there are contents or accounts: rows that are to be left out are put there.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np

from upwell.agents.xp import Array, Namespace

NEVER_H = -1_000_000
"""Hour of the visit before the first one."""


class ContentEvidence(NamedTuple):
    """Of contents, or of creators (the sums of theirs): f32 ``[M + 1]`` each."""

    shown: Array  # impressions in the feed
    clicks: Array  # of these
    valid: Array  # of these, watched
    direct: Array  # direct visits
    direct_valid: Array
    direct_engaged: Array  # of those watched: shared or bought
    strangers: Array  # direct visits by accounts that never clicked in the feed
    together: Array  # direct visits in the same clock hour as the one before
    again: Array  # direct visits by an account whose last direct visit was to the same creator
    last_h: Array  # hour of the last direct visit


class AccountEvidence(NamedTuple):
    """Of accounts, f32 ``[A + 1]`` each."""

    clicks: Array  # wherever they came from
    valid: Array
    engaged: Array  # of those watched: shared or bought
    direct: Array  # clicks of direct visits
    direct_valid: Array  # of these, watched
    guilt: Array  # sum over clicks of the content's probability to cheat, as it was then
    together: Array  # clicks in the same clock hour as the one before
    alike: Array  # clicks on the same tag as the one before
    last_h: Array
    last_tag: Array
    last_creator: Array  # of the last direct visit


class Events(NamedTuple):
    """What is new of impressions and visits ``[N]``, in the order of time: each flag is told once, alone or not."""

    account: Array  # i32
    content: Array  # i32
    creator: Array  # i32
    tag: Array  # i32, the content's first
    hour: Array  # i32, since the epoch
    direct: Array  # bool
    shown: Array  # bool, an impression in the feed
    clicked: Array  # bool; a direct visit is one
    valid: Array  # bool
    engaged: Array  # bool


Evidence = TypeVar("Evidence", ContentEvidence, AccountEvidence)


def none_of_contents(xp: Namespace, contents: int) -> ContentEvidence:
    """Nothing known of so many contents."""
    zero = [xp.zeros(contents + 1, dtype=xp.float32) for _ in ContentEvidence._fields]
    return ContentEvidence(*zero)._replace(last_h=zero[-1] + NEVER_H)


def none_of_accounts(xp: Namespace, accounts: int) -> AccountEvidence:
    """Nothing known of so many accounts."""
    zero = [xp.zeros(accounts + 1, dtype=xp.float32) for _ in AccountEvidence._fields]
    known = AccountEvidence(*zero)
    return known._replace(
        last_h=known.last_h + NEVER_H, last_tag=known.last_tag - 1.0, last_creator=known.last_creator - 1.0
    )


def learn(
    xp: Namespace,
    contents: ContentEvidence,
    accounts: AccountEvidence,
    events: Events,
    content_doubt: Array,
) -> tuple[ContentEvidence, AccountEvidence]:
    """What is known after ``events``. With NumPy the arrays given are changed in place: of a million accounts a few
    thousand are in a batch.

    Args:
        content_doubt: contents' probabilities to cheat as they stand, f32 ``[M + 1]``.
    """
    nobody, nothing = accounts.clicks.shape[0] - 1, contents.clicks.shape[0] - 1
    account, content, hour = events.account, events.content, events.hour.astype(xp.float32)
    visit = events.direct & events.clicked
    who = xp.where(events.clicked, account, nobody)
    last_h, hours = before(xp, who, hour, accounts.last_h)
    last_tag, tags = before(xp, who, events.tag.astype(xp.float32), accounts.last_tag)
    visitor = xp.where(visit, account, nobody)
    last_creator, creators = before(xp, visitor, events.creator.astype(xp.float32), accounts.last_creator)
    visited = xp.where(visit, content, nothing)
    visited_h, visits_h = before(xp, visited, hour, contents.last_h)

    feed = ~events.direct
    of_content = (
        events.shown,
        feed & events.clicked,
        feed & events.valid,
        visit,
        events.direct & events.valid,
        events.direct & events.engaged,
        visit & (accounts.clicks[account] <= accounts.direct[account]),
        visit & (visited_h == hour),
        visit & (last_creator == events.creator),
    )
    clicked = events.clicked
    of_account = (
        clicked,
        events.valid,
        events.engaged,
        visit,
        visit & events.valid,
        clicked * content_doubt[content],
        clicked & (last_h == hour),
        clicked & (last_tag == events.tag),
    )
    return (
        ContentEvidence._make([*added(xp, contents[:-1], content, of_content), visits_h]),
        AccountEvidence._make([*added(xp, accounts[:-3], account, of_account), hours, tags, creators]),
    )


def added(xp: Namespace, sums: tuple[Array, ...], at: Array, values: tuple[Array, ...]) -> list[Array]:
    """Sums ``[n]`` with ``values`` ``[N]`` added at rows ``at`` (several may be the same); in place with NumPy."""
    if xp is np:
        for s, v in zip(sums, values, strict=True):
            np.add.at(s, at, v)
        return list(sums)
    columns = xp.stack([v.astype(xp.float32) for v in values], axis=-1)
    total = xp.zeros((sums[0].shape[0], len(values)), dtype=xp.float32).at[at].add(columns)
    return [s + total[:, i] for i, s in enumerate(sums)]


def before(xp: Namespace, key: Array, value: Array, last: Array) -> tuple[Array, Array]:
    """The value before each row's own, of the rows with the same key; and the last of each key afterwards.

    Args:
        key: i32 ``[N]``, rows of ``last``.
        value: f32 ``[N]``.
        last: f32 ``[n]``, the last value of each key before this batch.

    Returns:
        f32 ``[N]``, and ``last`` with the values of this batch.
    """
    order = xp.argsort(key, stable=True)
    sorted_key, sorted_value = key[order], value[order]
    same = sorted_key[1:] == sorted_key[:-1]
    edge = xp.ones((1,), dtype=bool)
    first, final = xp.concatenate([edge, ~same]), xp.concatenate([~same, edge])
    previous = xp.where(first, last[sorted_key], xp.roll(sorted_value, 1))
    # Rows that are not their key's last write to the bin, whose value nobody reads.
    target = xp.where(final, sorted_key, last.shape[0] - 1)
    if xp is np:
        out = np.empty_like(previous)
        out[order], last[target] = previous, sorted_value
        return out, last
    return xp.zeros_like(previous).at[order].set(previous), last.at[target].set(sorted_value)


def forgotten(xp: Namespace, known: Evidence, who: Array) -> Evidence:
    """Evidence without that of ``who`` (bool ``[n + 1]``): their places have gone to others."""
    blank = (none_of_contents if isinstance(known, ContentEvidence) else none_of_accounts)(xp, who.shape[0] - 1)
    return type(known)(*(xp.where(who, new, old) for old, new in zip(known, blank, strict=True)))


def by_creator(xp: Namespace, contents: ContentEvidence, creator: Array, creators: int) -> ContentEvidence:
    """Sums of contents' evidence by their creator (i32 ``[M]``)."""
    at = xp.concatenate([creator, xp.full((1,), creators, dtype=creator.dtype)])
    empty = tuple(xp.zeros(creators + 1, dtype=xp.float32) for _ in contents[:-1])
    return ContentEvidence._make([*added(xp, empty, at, contents[:-1]), empty[0]])
