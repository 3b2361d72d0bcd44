"""Callers of a server: keep-alive connections over bare sockets, so that what is measured is the server.

A closed loop sends on each connection as soon as the last answer is there: what the server can do. An open loop sends
at times fixed beforehand, and counts each wait from then, so that requests held up by a slow one are not left out.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeVar, cast

import msgspec
import numpy as np
import uvloop

from upwell.errors import UpwellError

T = TypeVar("T")
HOST = "127.0.0.1"
NEAR_S = 0.002
"""Timers are a millisecond coarse: what is due sooner than this is waited for by asking the clock."""


class Answered(msgspec.Struct):
    """What came of a run. Latencies in seconds, in the order of the answers."""

    count: int = 0
    seconds: float = 0.0
    latencies_s: list[float] = []
    failed: int = 0  # answers with a status of 400 or more


def http(method: str, path: str, body: bytes = b"") -> bytes:
    """A request as it goes over the wire."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Connection(asyncio.Protocol):
    """One request at a time; ``answered`` is called with the status and the body."""

    def __init__(self) -> None:
        self.answered: Callable[[Connection, int, bytes], None] | None = None
        self.sent_s = 0.0
        self.tag = 0
        self._transport: asyncio.Transport | None = None
        self._got = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its bases

    def send(self, request: bytes, at_s: float) -> None:
        """``at_s``: the time that the wait counts from."""
        assert self._transport is not None
        self.sent_s = at_s
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        got = self._got
        got += data
        head = got.find(b"\r\n\r\n")
        if head < 0:
            return
        at = got.find(b"content-length: ", 0, head)
        end = head + 4 + int(got[at + 16 : got.find(b"\r\n", at)])
        if len(got) < end:
            return
        status, body = int(got[9:12]), bytes(got[head + 4 : end])
        got.clear()
        if self.answered is not None:
            self.answered(self, status, body)

    def connection_lost(self, exc: Exception | None) -> None:
        # An answer that will not come: told as a failure, so that nobody waits for it.
        if self.answered is not None:
            self.answered(self, 599, b"")

    def close(self) -> None:
        self.answered = None
        if self._transport is not None:
            self._transport.close()


class Callers:
    """Connections to one server, for one loop after another."""

    def __init__(self, connections: list[Connection]) -> None:
        self._connections = connections

    @classmethod
    async def to(cls, port: int, connections: int) -> Callers:
        loop = asyncio.get_running_loop()
        made = [await loop.create_connection(Connection, HOST, port) for _ in range(connections)]
        return cls([connection for _, connection in made])

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    async def closed(
        self, requests: Iterator[bytes], seconds: float = 3_600.0, seen: Callable[[int, int, bytes], None] | None = None
    ) -> Answered:
        """For some time, or until there are no more requests. ``seen``: number of the request, status, body."""
        out, done = Answered(latencies_s=[]), asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        until, numbers, busy = began + seconds, iter(range(1 << 60)), len(self._connections)

        def next_on(connection: Connection) -> None:
            nonlocal busy
            now = time.perf_counter()
            request = next(requests, None) if now < until else None
            if request is None:
                busy -= 1
                if not busy:
                    done.set_result(None)
                return
            connection.tag = next(numbers)
            connection.send(request, now)

        def answered(connection: Connection, status: int, body: bytes) -> None:
            _count(out, connection, status)
            if seen is not None:
                seen(connection.tag, status, body)
            next_on(connection)

        for connection in self._connections:
            connection.answered = answered
            next_on(connection)
        await done
        out.seconds = time.perf_counter() - began
        return out

    async def opened(
        self, requests: Iterable[bytes], times_s: Iterable[float], seen: Callable[[int, int, bytes], None] | None = None
    ) -> Answered:
        """Request after request, each at its time from now. Waits for all answers."""
        out, free, due = Answered(latencies_s=[]), deque(self._connections), deque[tuple[float, int, bytes]]()

        def answered(connection: Connection, status: int, body: bytes) -> None:
            _count(out, connection, status)
            if seen is not None:
                seen(connection.tag, status, body)
            free.append(connection)
            send()

        def send() -> None:
            while free and due:
                connection = free.popleft()
                at_s, connection.tag, request = due.popleft()
                connection.send(request, at_s)

        for connection in self._connections:
            connection.answered = answered
        began = time.perf_counter()
        for number, (request, after_s) in enumerate(zip(requests, times_s, strict=False)):
            at_s = began + after_s
            while (left_s := at_s - time.perf_counter()) > 0:
                await asyncio.sleep(left_s - NEAR_S / 2 if left_s > NEAR_S else 0)
            due.append((at_s, number, request))
            send()
        while due or len(free) < len(self._connections):
            await asyncio.sleep(0.001)
        out.seconds = time.perf_counter() - began
        return out


def _count(out: Answered, connection: Connection, status: int) -> None:
    if status == 599:
        raise UpwellError("the server closed a connection under load")
    out.count += 1
    out.failed += status >= 400
    out.latencies_s.append(time.perf_counter() - connection.sent_s)


def arrivals(rate_per_s: float, seconds: float, seed: int = 0) -> list[float]:
    """Times of independent callers' requests: Poisson, seconds from the beginning."""
    gaps = np.random.default_rng(seed).exponential(1.0 / rate_per_s, max(int(rate_per_s * seconds), 1))
    return np.cumsum(gaps).tolist()


def percentile_ms(latencies_s: list[float], share: float) -> float:
    return float(np.percentile(latencies_s, 100.0 * share)) * 1_000 if latencies_s else float("nan")


async def ask(port: int, requests: list[bytes], connections: int = 32) -> list[bytes]:
    """Bodies of the answers, in the order of the requests. Raises UpwellError on one that is refused."""
    bodies: list[bytes] = [b""] * len(requests)

    def seen(number: int, status: int, body: bytes) -> None:
        if status >= 400:
            raise UpwellError(f"the server answered {status}: {body[:300].decode(errors='replace')}")
        bodies[number] = body

    callers = await Callers.to(port, min(connections, max(len(requests), 1)))
    try:
        await callers.closed(iter(requests), seen=seen)
    finally:
        callers.close()
    return bodies


def drive(work: Callable[[], Awaitable[T]]) -> T:
    """Run callers, on the faster event loop, as the server does."""

    async def main() -> T:
        failure: list[BaseException] = []
        # A failure inside a callback would leave the run waiting for ever.
        task = asyncio.ensure_future(work())

        def failed(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
            error = context.get("exception")
            failure.append(error if isinstance(error, BaseException) else UpwellError(str(context.get("message"))))
            task.cancel()

        asyncio.get_running_loop().set_exception_handler(failed)
        try:
            return await task
        except asyncio.CancelledError:
            raise failure[0] if failure else KeyboardInterrupt from None

    return uvloop.run(main())
