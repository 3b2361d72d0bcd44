"""What models may cost: tokens a day (UTC), counted in a file so that restarts and other processes go on counting."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable
from pathlib import Path

TOKENS_PER_DAY = 200_000
"""The limit where nothing else is said."""


def limited(path: Path, most: int) -> Spend | None:
    """At most so many tokens a day, counted in a file; None, without a limit, for 0."""
    return Spend(path, most) if most else None


class Spend:
    """At most ``most`` tokens a day. Tokens are reserved before a call and set right by what it used.

    ``now_s``: the clock, Unix seconds. A file that cannot be read as a count counts as a day that is spent.
    """

    def __init__(self, path: Path, most: int, now_s: Callable[[], float] = time.time) -> None:
        self.path, self.most, self.now_s = path, most, now_s

    def reserve(self, tokens: int) -> bool:
        """Whether there was room for them; then they count. Raises OSError where the file cannot be written."""
        return self._change(tokens, self.most)

    def settle(self, reserved: int, used: int) -> None:
        """A call that was reserved for is over."""
        self._change(used - reserved, None)

    def _change(self, tokens: int, most: int | None) -> bool:
        day = time.strftime("%Y-%m-%d", time.gmtime(self.now_s()))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            spent = self._spent(file.read(), day)
            fits = most is None or spent + tokens <= most
            file.truncate(0)
            file.write(json.dumps({"day": day, "tokens": max(spent + tokens * fits, 0)}))
            return fits

    def _spent(self, text: str, day: str) -> int:
        try:
            found = json.loads(text or "{}")
            return int(found["tokens"]) if found.get("day") == day else 0
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return self.most
