"""Group commit: all who wait while one sync runs share the next."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable

from upwell.events.port import LogDown

Waiter = asyncio.Future[None]


class GroupCommit:
    """A thread that calls ``sync`` when someone waits, and every ``interval_s`` seconds anyway.

    ``sync`` returns the position that is durable now. Once it has raised, nothing is durable ever again: after a failed
    fsync the kernel may have dropped what it could not write.
    """

    def __init__(self, sync: Callable[[], int], interval_s: float, name: str) -> None:
        self._sync, self._interval_s = sync, interval_s
        self._wake = threading.Condition()
        self._waiters: dict[asyncio.AbstractEventLoop, list[Waiter]] = defaultdict(list)
        self._wanted = self._stopped = False
        self._durable = -1
        self.error = ""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def durable(self, position: int) -> None:
        """Wait for all before ``position``. Raises LogDown."""
        with self._wake:
            if self._settled(position):
                return
            loop = asyncio.get_running_loop()
            waiter: Waiter = loop.create_future()
            self._waiters[loop].append(waiter)
            self._wake.notify_all()
        await waiter

    def wait(self, position: int, timeout_s: float | None = None) -> None:
        """The same for a thread. Raises LogDown, also when it takes longer than ``timeout_s`` seconds."""
        with self._wake:
            if not self._settled(position):
                self._wanted = True
                self._wake.notify_all()
            if not self._wake.wait_for(lambda: self._settled(position), timeout_s):
                raise LogDown(f"the journal's disk took more than {timeout_s} s")

    def stop(self) -> None:
        """Ends the thread after a last sync."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()
        self._thread.join()

    def _settled(self, position: int) -> bool:
        if self.error:
            raise LogDown(self.error)
        if position > self._durable and self._stopped:
            raise LogDown("the journal is closed")
        return position <= self._durable

    def _run(self) -> None:
        stopped = False
        while not (stopped or self.error):
            with self._wake:
                if not (self._waiters or self._wanted or self._stopped):
                    self._wake.wait(self._interval_s)
                waiters, self._waiters = self._waiters, defaultdict(list)
                self._wanted, stopped = False, self._stopped
            durable, error = self._durable, ""
            try:
                durable = self._sync()
            except OSError as failed:
                error = f"the journal cannot be made durable ({failed.strerror}): see to the disk, then restart"
            with self._wake:
                self._durable, self.error = durable, error
                if error:  # who came meanwhile is told now: there is no next time
                    for loop, late in self._waiters.items():
                        waiters[loop].extend(late)
                self._wake.notify_all()
            for loop, group in waiters.items():
                with contextlib.suppress(RuntimeError):  # its loop has closed
                    loop.call_soon_threadsafe(settle, group, error)


def settle(waiters: list[Waiter], error: str) -> None:
    """Tell all of a group. Who was cancelled meanwhile is done already."""
    for waiter in waiters:
        if not waiter.done():
            waiter.set_exception(LogDown(error)) if error else waiter.set_result(None)
