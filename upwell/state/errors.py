"""What can go wrong with a store. Nothing here ever quotes a URL's password."""

from __future__ import annotations

from upwell.errors import UpwellError


class StoreDown(UpwellError):
    """The backend does not answer, or refuses to write: try again later. Whether a write took place is not known."""


class Conflict(UpwellError):
    """A stored offset is not the expected one; nothing was written.

    After a write whose answer was lost, ``stored`` equal to the batch's next offset means that it took place.
    """

    def __init__(self, partition: str, expected: int, stored: int) -> None:
        super().__init__(f"partition {partition}: expected offset {expected}, stored is {stored}")
        self.partition = partition
        self.expected = expected
        self.stored = stored


class Fenced(UpwellError):
    """The batch's lease has expired or passed to another; nothing was written. Acquire it again or stop."""

    def __init__(self, name: str, token: int) -> None:
        super().__init__(f"lease {name} with token {token} is no longer held")
        self.name = name
        self.token = token
