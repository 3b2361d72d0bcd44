"""The callers of a load, against a server whose answers and delays are known."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from upwell.bench.load import Callers, arrivals, ask, drive, http, percentile_ms
from upwell.errors import UpwellError


async def served(delays_s, status=200):
    """A server that answers each request with its body, after the next delay; in two pieces."""
    delays = iter(delays_s)

    async def answer(reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                await asyncio.sleep(next(delays, 0.0))
                writer.write(b"HTTP/1.1 %d OK\r\ncontent-length: %d\r\n\r\n" % (status, len(body)) + body[:1])
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(body[1:])
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


def test_answers_come_in_the_order_of_the_requests():
    async def main():
        server, port = await served([0.02, 0.0, 0.01])
        async with server:
            return await ask(port, [http("POST", "/", b"body%d" % n) for n in range(50)], 5)

    assert drive(main) == [b"body%d" % n for n in range(50)]


def test_a_refusal_is_told():
    async def main():
        server, port = await served([], status=422)
        async with server:
            await ask(port, [http("POST", "/", b"why")])

    with pytest.raises(UpwellError, match="422: why"):
        drive(main)


def test_an_open_loop_counts_the_wait_behind_a_slow_answer():
    """One connection, one answer that takes 200 ms: those due meanwhile waited too, though they were sent late."""

    async def main():
        server, port = await served([0.2])
        async with server:
            callers = await Callers.to(port, 1)
            ran = await callers.opened(itertools.repeat(http("POST", "/", b"x")), [0.02 * n for n in range(10)])
            callers.close()
            return ran

    ran = drive(main)
    assert ran.count == 10
    assert sum(wait > 0.05 for wait in ran.latencies_s) >= 7


def test_a_closed_loop_ends_with_its_time_or_its_requests():
    async def main():
        server, port = await served([])
        async with server:
            callers = await Callers.to(port, 4)
            request = http("POST", "/", b"x")
            timed = await callers.closed(itertools.repeat(request), 0.1)
            listed = await callers.closed(iter([request] * 17))
            callers.close()
            return timed, listed

    timed, listed = drive(main)
    assert timed.count > 4
    assert timed.seconds < 2.0
    assert listed.count == 17


def test_arrivals_come_at_their_rate():
    times = arrivals(1_000.0, 20.0)
    assert len(times) == 20_000
    assert times[-1] == pytest.approx(20.0, rel=0.05)
    assert times == sorted(times)


def test_percentiles_are_in_milliseconds():
    assert percentile_ms([0.001, 0.002, 0.003], 0.5) == pytest.approx(2.0)
