"""Reads that many ask for at once are made together, and outlive whoever gave up waiting."""

from __future__ import annotations

import asyncio
import threading

import pytest

from upwell.service.gathered import Gathered
from upwell.state import StoreDown


class Slow:
    """A read that takes until it is let go, and notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.go = threading.Event()
        self.fails = False

    def __call__(self, keys: list[str]) -> dict[str, int]:
        self.asked.append(keys)
        assert self.go.wait(10)
        if self.fails:
            raise StoreDown("away")
        return {key: len(key) for key in keys}


def test_all_that_is_asked_for_meanwhile_is_one_read():
    async def run():
        read, taken = Slow(), {}
        gathered = Gathered(read, taken.update)
        first = asyncio.create_task(gathered.get(["a"]))
        while not read.asked:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(gathered.get([name, "x"])) for name in ("bb", "ccc", "a")]
        await asyncio.sleep(0.01)
        read.go.set()
        assert await first == {"a": 1}
        assert [(await other)["x"] for other in others] == [1, 1, 1]
        assert read.asked == [["a"], ["a", "bb", "ccc", "x"]]
        assert taken == {"a": 1, "bb": 2, "ccc": 3, "x": 1}

    asyncio.run(run())


def test_a_read_that_nobody_waits_for_any_more_is_taken():
    async def run():
        read, taken = Slow(), {}
        gathered = Gathered(read, taken.update)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(gathered.get(["a"]), 0.05)
        quiet = asyncio.create_task(gathered.quiet())
        await asyncio.sleep(0.01)
        assert not quiet.done()
        read.go.set()
        await quiet
        assert taken == {"a": 1}
        await gathered.quiet()
        assert await gathered.get(["b"]) == {"b": 1}

    asyncio.run(run())


def test_a_failed_read_fails_for_all_who_asked_and_for_nobody_else():
    async def run():
        read = Slow()
        read.fails = True
        gathered = Gathered(read)
        asking = [asyncio.create_task(gathered.get(["a"])) for _ in range(2)]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(gathered.get(["b"]), 0.05)
        read.go.set()
        for task in asking:
            with pytest.raises(StoreDown):
                await task
        read.fails = False
        assert await gathered.get(["c"]) == {"c": 1}

    asyncio.run(run())
