"""Sequences of what users did, to learn from: of a simulated platform, and MovieLens-100K.

The last engagement of each user is the test, the one before it the validation, everything before that the training
(leave-last-out in time; contents of the test's own slate are left out with it).
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from upwell.errors import UpwellError

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
WHEEL = "recbole==1.2.1"
INSIDE = "recbole/dataset_example/ml-100k/"
EPOCH = np.datetime64("1970-01-01")


class Column(NamedTuple):
    """Events of all users one after another, each user's in order of time, ``[E]`` each."""

    user: Ints
    row: Ints  # content
    tag: Ints
    time_s: npt.NDArray[np.float64]
    dwell_s: Floats
    engaged: Flags
    slate: Ints  # number of the slate it stood in: rises along the events


@dataclass(frozen=True)
class Sequences:
    """Sequences ready to learn from; ``U`` users, ``T`` the longest history, padded at its end."""

    name: str
    features: Floats  # [N, F], what is known of contents without anybody's behaviour
    tags: int
    row: Ints  # [U, T]
    tag: Ints
    gap_s: Floats
    dwell_s: Floats
    engaged: Flags
    target: Ints  # [U, T], content engaged next after that event in a later slate, within the training; -1: none
    ends: dict[str, Ints]  # [U], events before the target of "train", "valid" and "test"
    held: dict[str, Ints]  # [U], the target of "valid" and "test"
    barred: dict[str, Flags]  # [U, N], contents that cannot be the answer then

    @property
    def seen(self) -> npt.NDArray[np.float64]:
        """How often each content is a target in training, ``[N]``."""
        return np.bincount(self.target[self.target >= 0], minlength=len(self.features)).astype(np.float64)


def next_engaged(row: Ints, engaged: Flags, slate: Ints) -> Ints:
    """For each event of one user the content engaged first in a later slate, -1 where none is."""
    n = len(row)
    at = np.where(engaged, np.arange(n), n)
    first = np.append(np.minimum.accumulate(at[::-1])[::-1], n)  # first engaged event from each on
    found = first[np.searchsorted(slate, slate, side="right")]
    return np.where(found < n, np.append(row, -1)[np.minimum(found, n)], -1).astype(np.int32)


def laid_out(
    name: str, features: Floats, events: Column, longest: int, barred: Callable[[str, Ints, Ints], Flags]
) -> Sequences:
    """Users with three engagements in three slates or more, their latest ``longest`` events, split in time.

    Args:
        barred: given the split, users i32 ``[U]`` and the index of each one's held-out event i32 ``[U]``: contents
            that cannot be the answer, bool ``[U, N]``.
    """
    cuts = np.flatnonzero(np.diff(events.user)) + 1
    users, found = list[Any](), {"valid": list[int](), "test": list[int]()}
    for own in np.split(np.arange(len(events.user)), cuts):
        slate, engaged = events.slate[own], events.engaged[own]
        start = np.searchsorted(slate, slate, side="left")  # where each event's slate begins
        held, before = list[int](), len(own)
        for _ in ("test", "valid", "train"):
            earlier = np.flatnonzero(engaged[:before])
            if len(earlier) == 0:
                break
            held.append(int(earlier[-1]))
            before = int(start[earlier[-1]])
        if len(held) == 3:
            users.append((own[max(0, int(start[held[0]]) - longest) : int(start[held[0]])], own[0], start, held))
            found["test"].append(int(own[held[0]]))
            found["valid"].append(int(own[held[1]]))
    size = max(len(kept) for kept, *_ in users)
    shape = (len(users), size)
    row, tag, target = np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.full(shape, -1, np.int32)
    gap_s, dwell_s, clicked = np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.bool_)
    ends = {split: np.zeros(len(users), np.int32) for split in ("train", "valid", "test")}
    for u, (kept, begins, start, held) in enumerate(users):
        n, shift = len(kept), int(kept[0] - begins)
        ends["test"][u] = n
        ends["valid"][u] = ends["train"][u] = max(1, int(start[held[1]]) - shift)
        row[u, :n], tag[u, :n], gap_s[u, 1:n] = events.row[kept], events.tag[kept], np.diff(events.time_s[kept])
        dwell_s[u, :n], clicked[u, :n] = events.dwell_s[kept], events.engaged[kept]
        inner = kept[: ends["train"][u]]
        target[u, : len(inner)] = next_engaged(events.row[inner], events.engaged[inner], events.slate[inner])
    held_rows = {split: events.row[np.array(index)] for split, index in found.items()}
    who = events.user[np.array(found["test"])]
    shut = {split: barred(split, who, np.array(index, np.int32)) for split, index in found.items()}
    for split, answer in held_rows.items():
        shut[split][np.arange(len(who)), answer] = False
    tags = int(events.tag.max()) + 1
    return Sequences(name, features, tags, row, tag, gap_s, dwell_s, clicked, target, ends, held_rows, shut)


def movielens(cache: Path, longest: int = 1_000) -> Sequences:
    """MovieLens-100K out of RecBole's published wheel, fetched into ``cache`` once; research use, never passed on.

    Every rating is an event; those of 4 or more are engagements. Seen films are no answers: nobody rates twice. There
    is no dwell time. Ratings of one second keep the file's order, which says nothing.
    """
    ratings = table(unpacked(cache) / "ml-100k.inter")
    items = table(unpacked(cache) / "ml-100k.item")
    rows = {item: n for n, item in enumerate(items["item_id"])}
    genres = sorted({genre for line in items["class"] for genre in line.split(" ") if genre})
    features = np.zeros((len(rows), len(genres) + 2), np.float32)
    first = np.zeros(len(rows), np.int32)
    for n, (line, year) in enumerate(zip(items["class"], items["release_year"], strict=True)):
        named = [genres.index(genre) for genre in line.split(" ") if genre]
        features[n, named] = 1.0
        features[n, -2:] = ((float(year) - 1980.0) / 20.0, 1.0) if year.isdigit() else (0.0, 0.0)
        first[n] = named[0] if named else 0
    user = np.array(ratings["user_id"], np.int32)
    time_s = np.array(ratings["timestamp"], np.float64)
    order = np.lexsort((np.arange(len(user)), time_s, user))
    row = np.array([rows[item] for item in ratings["item_id"]], np.int32)[order]
    good = np.array(ratings["rating"], np.float32)[order] >= 4.0
    events = Column(
        user[order], row, first[row], time_s[order], np.zeros(len(user), np.float32), good,
        np.arange(len(user), dtype=np.int32),
    )  # fmt: skip

    def barred(_: str, who: Ints, held: Ints) -> Flags:
        out = np.zeros((len(who), len(rows)), np.bool_)
        begins = np.searchsorted(events.user, who)
        for u, (start, end) in enumerate(zip(begins, held, strict=True)):
            out[u, events.row[start:end]] = True
        return out

    return laid_out("ml-100k", features, events, longest, barred)


def table(path: Path) -> dict[str, list[str]]:
    """Columns of a RecBole file: tab-separated, ``name:type`` on top."""
    head, *lines = path.read_text("utf-8").splitlines()
    names = [column.partition(":")[0] for column in head.split("\t")]
    return dict(zip(names, map(list, zip(*(line.split("\t") for line in lines), strict=True)), strict=True))


def unpacked(cache: Path) -> Path:
    """The folder of MovieLens-100K's files. Raises UpwellError where the wheel cannot be had."""
    folder = cache / "recbole" / INSIDE
    if not (folder / "ml-100k.item").exists():
        try:
            fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache / "recbole")]
            subprocess.run([*fetch, WHEEL], check=True, capture_output=True, timeout=300)
            with zipfile.ZipFile(next((cache / "recbole").glob("recbole-*.whl"))) as wheel:
                names = [name for name in wheel.namelist() if name.startswith(INSIDE)]
                for name in sorted(names, key=lambda name: name.endswith(".item")):  # whole once the last is there
                    wheel.extract(name, cache / "recbole")
        except (subprocess.SubprocessError, OSError, StopIteration, zipfile.BadZipFile) as error:
            raise UpwellError(
                f"MovieLens-100K: `pip download --no-deps {WHEEL}` failed ({type(error).__name__})"
            ) from None
    return folder
