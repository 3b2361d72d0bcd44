"""How fast a log is on this machine. Prints one JSON document; takes about 20 seconds.

.venv/bin/python scripts/bench_events.py embedded:
.venv/bin/python scripts/bench_events.py kafka://127.0.0.1:9092
"""

import asyncio
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

from upwell.events import DECISIONS, INTERACTIONS, Limits, open_log

BATCH = 500
VALUE = b"x" * 300


def quantiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {f"p{p}_ms": round(ordered[min(len(ordered) * p // 100, len(ordered) - 1)] * 1e3, 3) for p in (50, 99)}


def stamped(count: int) -> list[tuple[str, int, bytes]]:
    return [(f"user-{n}", 0, str(time.monotonic_ns()).encode()) for n in range(count)]


def appending(log, batches: int) -> dict[str, float]:
    """Records in batches, as fast as one thread can."""
    records = [(f"user-{n}", 1_700_000_000_000, VALUE) for n in range(BATCH)]
    took: list[float] = []
    for _ in range(batches):
        began = time.perf_counter()
        log.append(DECISIONS, records)
        took.append(time.perf_counter() - began)
    return {"records_per_second": round(batches * BATCH / sum(took)), **quantiles(took)}


def waiting(log, callers: int, calls: int) -> dict[str, float]:
    """Callers that each append one record and wait for it to be durable, over and over."""
    record, took = [("user", 1_700_000_000_000, VALUE)], []

    async def caller() -> None:
        for _ in range(calls // callers):
            began = time.perf_counter()
            await log.durable(log.append(INTERACTIONS, record))
            took.append(time.perf_counter() - began)

    async def all_of_them() -> float:
        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(callers)))
        return time.perf_counter() - began

    seconds = asyncio.run(all_of_them())
    return {"per_second": round(len(took) / seconds), **quantiles(took)}


def through(log, consumer, seconds: float) -> dict[str, float]:
    """From append to poll, at 1,000 records a second."""
    took: list[float] = []
    stop = threading.Event()

    def consume() -> None:
        while not stop.is_set():
            entries, now = consumer.poll(500, 0.1), time.monotonic_ns()
            took.extend((now - int(entry.value)) / 1e9 for entry in entries)

    thread = threading.Thread(target=consume)
    thread.start()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        log.append(INTERACTIONS, stamped(10))
        time.sleep(0.01)
    time.sleep(1.0)
    stop.set()
    thread.join()
    late = took[len(took) // 10 :]  # without the beginning, when connections are made
    return {"records": len(took), **quantiles(late)}


def catching_up(log, consumer, batches: int) -> dict[str, float]:
    """Records appended at once: until all are in Kafka, if it is that, and until all are polled; processor time too."""
    records = [(f"user-{n}", 1_700_000_000_000, VALUE) for n in range(BATCH)]
    for _ in range(batches):
        log.append(DECISIONS, records)
    began, cpu, count = time.perf_counter(), time.process_time(), batches * BATCH
    while log.healthy().undelivered_bytes:
        time.sleep(0.01)
    delivered, cpu_delivered = time.perf_counter() - began, time.process_time() - cpu
    began, cpu, found = time.perf_counter(), time.process_time(), 0
    while found < count:
        found += len(consumer.poll(1_000, 1.0))
    sent = {
        "delivered_per_second": round(count / delivered),
        "delivered_per_cpu_second": round(count / cpu_delivered),
    }
    return (sent if delivered > 0.01 else {}) | {
        "polled_per_second": round(count / (time.perf_counter() - began)),
        "polled_per_cpu_second": round(count / (time.process_time() - cpu)),
    }


def main(url: str) -> None:
    with tempfile.TemporaryDirectory(dir=".") as folder:  # the disk that is to be measured, not one in memory
        log = open_log(url, Path(folder), Limits())
        consumer = log.consumer(f"bench-{time.time_ns()}", lambda _: {}, [INTERACTIONS])
        other = log.consumer(f"other-{time.time_ns()}", lambda _: {}, [DECISIONS])
        try:
            until = time.monotonic() + 60  # join, and skip what the topic had
            while time.monotonic() < until and (
                consumer.poll(1_000, 1.0) or not consumer.assigned() or other.poll(1_000, 1.0) or not other.assigned()
            ):
                pass
            figures = {"through": through(log, consumer, 5.0)}
            figures["catching_up"] = catching_up(log, other, 200)
            figures |= {f"waiting_{n}": waiting(log, n, min(n * 100, 20_000)) for n in (1, 16, 256)}
            figures["appending"] = appending(log, 400)
        finally:
            consumer.close()
            other.close()
            log.close()
    print(json.dumps({"url": url, **figures}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "embedded:")
