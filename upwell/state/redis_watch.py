"""Changes that others made in Redis, by its client-side caching: a connection that is told which keys changed.

Tracking is in broadcast mode, by key prefix: the server keeps no list of what each client read. Its NOLOOP option would
spare us our own writes, but does not see through scripts, and all our writes are scripts. Instead each script touches a
key named after its store. Redis gathers the changes of a turn of its event loop into one message a prefix, so a message
with our name alone holds only our own writes; one with other names too is reported whole.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ConnectionError, RedisError

from upwell.state.batch import Kind
from upwell.state.port import EVERYTHING, Changes
from upwell.state.redis_link import RedisLink

SILENCE_S = 2.0  # after which the server is asked whether it is still there: a dead network says nothing


class RedisWatcher:
    """See ``Watcher``. Has a connection of its own."""

    def __init__(self, link: RedisLink, prefix: str, writer: str, kinds: Sequence[Kind]) -> None:
        self._link = link
        self._writer = writer
        self._prefixes: dict[str, Kind] = {f"{prefix}{kind}:": kind for kind in kinds}
        self._news: Changes = set()
        self._tracked = False
        try:
            self._connection = link.pool.get_connection()
        except (RedisError, OSError) as error:
            raise link.down(error) from None
        parser: Any = self._connection._parser  # pyright: ignore[reportPrivateUsage]
        parser.set_invalidation_push_handler(self._told)  # redis-py has no public way to see a bare push
        try:
            self._track()
        except (RedisError, OSError) as error:
            self.close()
            raise link.down(error) from None

    def poll(self, timeout_s: float) -> Changes:
        try:
            if self._tracked:
                self._listen(timeout_s)
        except (RedisError, OSError):
            self._connection.disconnect()
            self._tracked = False
        if not self._tracked:
            try:
                self._track()
            except (RedisError, OSError) as error:
                self._connection.disconnect()
                raise self._link.down(error) from None
            self._news = EVERYTHING
        news, self._news = self._news, set()
        return news

    def close(self) -> None:
        self._connection.disconnect()  # ends the tracking with it
        self._link.pool.release(self._connection)

    def _track(self) -> None:
        self._connection.connect()
        prefixes = [part for prefix in self._prefixes for part in ("PREFIX", prefix)]
        self._ask("CLIENT", "TRACKING", "ON", "BCAST", *prefixes)
        self._tracked = True

    def _listen(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            left = deadline - time.monotonic()
            wait = 0.0 if self._news else max(0.0, min(left, self._heard + SILENCE_S - time.monotonic()))
            if self._connection.can_read(wait):
                self._connection.read_response(push_request=True)
                self._heard = time.monotonic()
            elif time.monotonic() >= self._heard + SILENCE_S:
                self._ask("PING")
            elif self._news or left <= 0:
                return

    def _ask(self, *command: str) -> None:
        self._connection.send_command(*command)
        if isinstance(answer := self._connection.read_response(), Exception):
            raise ConnectionError(str(answer))
        self._heard = time.monotonic()

    def _told(self, message: list[Any]) -> None:
        """A push: ['invalidate', keys], or no keys when all of them went."""
        if message[1] is None:
            self._news = EVERYTHING
            return
        keys = [key.decode(errors="replace") for key in message[1]]
        found: set[tuple[Kind, str]] = set()
        writers: set[str] = set()
        for key in keys:
            prefix = next((p for p in self._prefixes if key.startswith(p)), None)
            if prefix is None:
                continue
            facet, _, id = key.removeprefix(prefix).partition(":")
            if facet == "w":
                writers.add(id)
            else:
                found.add((self._prefixes[prefix], id))
        if self._news is not EVERYTHING and writers != {self._writer}:
            self._news |= found
