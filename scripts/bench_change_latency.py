"""How long after a change decisions go by it: on the server that took it, and on all of them.

.venv/bin/python scripts/bench_change_latency.py goals --workers 2      # a goal is approved
.venv/bin/python scripts/bench_change_latency.py policies --workers 2   # another version of the policy is made live
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count, cycle, islice
from pathlib import Path

import httpx

from upwell.agents.network import pack_policy
from upwell.service import learned, versions
from upwell.state import open_store
from upwell.state.batch import Batch


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("what", choices=CHANGES)
    given.add_argument("--workers", type=int, default=1, help="server processes")
    given.add_argument("--times", type=int, default=20, help="changes")
    options = given.parse_args()
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", "from upwell.cli import main; main()", "serve", "--port", str(port)]
        command += ["--data", folder, "--workers", str(options.workers)]
        with open(os.devnull, "wb") as nowhere:
            service = subprocess.Popen(command, stdout=nowhere, stderr=nowhere)
        try:
            ready(url)
            changes = CHANGES[options.what](url, Path(folder))
            measure(url, changes, options.times, options.workers)
        finally:
            service.terminate()
            service.wait()


def ready(url: str) -> None:
    until_s = time.monotonic() + 120.0
    while time.monotonic() < until_s:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz").is_success:
                return
        time.sleep(0.1)
    raise SystemExit("the service did not get ready within two minutes")


def goals(url: str, folder: Path) -> Iterator[tuple[str, str, Callable[[], str]]]:
    """A goal after the other is approved, and lifted when the next one comes."""
    with httpx.Client(base_url=url, timeout=30.0) as one:
        for n in count():
            # Far enough apart that each proposal moves the weights, and near enough for one key.
            shares = {"user_satisfaction": 5 + n % 2, "platform_revenue": 3, "long_term": 2}
            path = f"/v1/goals/goal{n}"
            one.put("/v1/goals", json={"text": "raise ctr", "id": f"goal{n}"}).raise_for_status()
            one.put(f"{path}/proposal", json={"weights": shares}).raise_for_status()
            yield (
                "weights_version",
                f"{2 * n + 1}:goal{n}",
                lambda path=path: one.post(f"{path}/approve").raise_for_status().text,
            )
            one.delete(path).raise_for_status()


def policies(url: str, folder: Path) -> Iterator[tuple[str, str, Callable[[], str]]]:
    """The shipped policy and a copy of it by another name are made live by turns."""
    base = learned.load("marl")
    assert base is not None
    with closing(open_store(f"sqlite:{folder / 'state.db'}")) as store:
        number, found = versions.read(store, base.version, 0)
        found.gated_out("copy", "to be made live by hand", 0)
        batch = Batch()
        versions.put(batch, number, found, {"copy": pack_policy(base.policy, {})})
        store.write(batch)
    with httpx.Client(base_url=url, timeout=30.0) as one:
        for version in cycle(("copy", base.version)):
            path = f"/v1/policies/{version}/activate"
            yield "policy_version", version, lambda path=path: one.post(path).raise_for_status().text


CHANGES = {"goals": goals, "policies": policies}


def measure(url: str, changes: Iterator[tuple[str, str, Callable[[], str]]], times: int, workers: int) -> None:
    first, every = list[float](), list[float]()
    for field, version, change in islice(changes, times):
        began_s = time.monotonic()
        change()
        first.append(seen_s(url, field, version, 1) - began_s)
        every.append(seen_s(url, field, version, 8 * workers) - began_s)
        time.sleep(0.6)
    for what, found in (("first decision", first), (f"all of {8 * workers} connections in a row", every)):
        print(f"{workers} server(s), {what}: median {statistics.median(found):.3f} s, longest {max(found):.3f} s")


def seen_s(url: str, field: str, version: str, in_a_row: int) -> float:
    """When so many decisions in a row, each by a connection of its own, went by a version: the first of them."""
    seen = 0
    while seen < in_a_row:
        asked_s = time.monotonic()
        body = {"user_id": f"u{time.monotonic_ns()}", "candidates": [{"id": "a", "score": 1.0}], "size": 1}
        answer = httpx.post(f"{url}/v1/recommend", json=body, timeout=30.0).raise_for_status().json()
        right = answer[field] == version
        if right and not seen:
            since_s = asked_s
        seen = seen + 1 if right else 0
    return since_s if in_a_row > 1 else time.monotonic()


if __name__ == "__main__":
    main()
