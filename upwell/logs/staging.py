"""Where an import is built: a folder beside ``--out``, put in its place by one rename at the end, so that one that
fails leaves nothing, and an earlier data set whole. What a stopped one leaves there, the next one goes on with."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from upwell.errors import BadRequest
from upwell.logs.journal import JOURNAL, Journal, begin, differs, whole
from upwell.logs.plan import Plan

MANIFEST = "dataset.json"
MADE_BY = "upwell import"


def work_of(out: Path) -> Path:
    """The folder in which the data set for ``out`` is built."""
    return out.parent / f".{out.name}.import"


def unfinished(out: Path) -> bool:
    """Whether a stopped import to ``out`` can be gone on with."""
    return (work_of(out) / JOURNAL).exists()


@contextmanager
def staged(out: Path, plan: Plan, note: Callable[[str], None]) -> Generator[tuple[Path, Journal]]:
    """The folder to work in, whose ``new`` becomes ``out`` if all goes well, and what is done there already.

    A failed import's folder is removed, a stopped one's stays if there is anything to go on from. Raises BadRequest if
    ``out`` holds anything but a data set, or another import is at work on it.
    """
    check(out)
    work = work_of(out)
    work.mkdir(parents=True, exist_ok=True)
    with locked(work, out):
        try:
            journal = resume(work, out, plan, note)
            yield work, journal
            (work / JOURNAL).unlink()  # from here on there is nothing to go on from
            if out.exists():
                out.rename(work / "old")
            (work / "new").rename(out)
            remove(work, out)
        except Exception:
            remove(work, out)
            raise
        except BaseException:
            if not unfinished(out):
                remove(work, out)
            raise


def resume(work: Path, out: Path, plan: Plan, note: Callable[[str], None]) -> Journal:
    """What is done already; else an empty journal and folder. ``note`` is told which."""
    now = begin(plan)
    try:
        left = msgspec.json.decode((work / JOURNAL).read_bytes(), type=Journal)
        why = differs(left, now) or ("" if whole(left, work) else "its files are damaged")
        if not why:
            note(f"going on after {left.rows:,} rows that an earlier import of the same files has read")
            return left
        note(f"an earlier import to {out} was stopped, but {why}: starting anew")
    except FileNotFoundError:
        pass
    except msgspec.DecodeError:
        note(f"an earlier import to {out} was stopped, but its journal is of another version: starting anew")
    clear(work, out)
    (work / "new").mkdir()
    return now


def clear(work: Path, out: Path) -> None:
    """Empty the folder; an earlier data set that a run killed while renaming has left there goes back."""
    if (work / "old").exists() and not out.exists():
        (work / "old").rename(out)
    for path in work.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def remove(work: Path, out: Path) -> None:
    clear(work, out)
    work.rmdir()


@contextmanager
def locked(work: Path, out: Path) -> Generator[None]:
    """Nobody else works in the folder meanwhile; a killed process's lock ends with it. Raises BadRequest."""
    held = os.open(work, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadRequest(f"{out}: another import is writing there: wait for it or choose another --out") from None
        yield
    finally:
        os.close(held)


def check(out: Path) -> None:
    """Only an earlier import or an empty folder is ever replaced. Raises BadRequest."""
    if out.is_dir():
        if any(out.iterdir()) and not is_ours(out):
            raise BadRequest(f"{out}: holds other files than a data set of `upwell import`: choose another --out")
    elif out.exists():
        raise BadRequest(f"{out}: is a file; --out names a folder")


def is_ours(folder: Path) -> bool:
    """Whether an import made this folder."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return False
    return manifest.get("made_by") == MADE_BY
