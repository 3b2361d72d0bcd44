"""Records of the store that several processes change: read, changed and written by comparison, so that none undoes
what another did."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from upwell.service.errors import Refused
from upwell.state.batch import Batch
from upwell.state.errors import Conflict
from upwell.state.port import Store

TRIES = 5
T = TypeVar("T")


def change(store: Store, attempt: Callable[[Batch], T], what: str) -> T:
    """Write what ``attempt`` adds to a batch; where another was faster, it is made anew to what that one left.

    ``attempt`` reads the record and advances its offset; nothing is written where it adds nothing. Raises StoreDown,
    what ``attempt`` raises, and Refused 409 where ``what`` keeps changing.
    """
    for _ in range(TRIES):
        batch = Batch()
        found = attempt(batch)
        if not batch.offsets:
            return found
        try:
            store.write(batch)
            return found
        except Conflict:
            continue
    raise Refused(409, "conflict", f"{what} keep changing; try again")
