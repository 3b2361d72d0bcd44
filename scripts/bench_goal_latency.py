"""How long after an approval decisions go by its weights: on the server that took it, and on all of them.

.venv/bin/python scripts/bench_goal_latency.py --workers 2
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

import httpx


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--workers", type=int, default=1, help="server processes")
    given.add_argument("--times", type=int, default=20, help="approvals")
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
            measure(url, options.times, options.workers)
        finally:
            service.terminate()
            service.wait()


def measure(url: str, times: int, workers: int) -> None:
    until_s = time.monotonic() + 120.0
    while time.monotonic() < until_s:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz").is_success:
                break
        time.sleep(0.1)
    first, every = list[float](), list[float]()
    for n in range(times):
        # Far enough apart that each proposal moves the weights, and near enough for one key.
        shares = {"user_satisfaction": 5 + n % 2, "platform_revenue": 3, "long_term": 2}
        id = f"goal{n}"
        with httpx.Client(base_url=url, timeout=30.0) as one:
            one.put("/v1/goals", json={"text": "raise ctr", "id": id}).raise_for_status()
            one.put(f"/v1/goals/{id}/proposal", json={"weights": shares}).raise_for_status()
            began_s = time.monotonic()
            version = one.post(f"/v1/goals/{id}/approve").raise_for_status().json()["in_force"]["version"]
            first.append(seen_s(url, version, 1) - began_s)
            every.append(seen_s(url, version, 8 * workers) - began_s)
            one.delete(f"/v1/goals/{id}").raise_for_status()
        time.sleep(0.6)
    for what, found in (("first decision", first), (f"all of {8 * workers} connections in a row", every)):
        print(f"{workers} server(s), {what}: median {statistics.median(found):.3f} s, longest {max(found):.3f} s")


def seen_s(url: str, version: str, in_a_row: int) -> float:
    """When so many decisions in a row, each by a connection of its own, went by a version: the first of them."""
    seen = 0
    while seen < in_a_row:
        asked_s = time.monotonic()
        body = {"user_id": f"u{time.monotonic_ns()}", "candidates": [{"id": "a", "score": 1.0}], "size": 1}
        answer = httpx.post(f"{url}/v1/recommend", json=body, timeout=30.0).raise_for_status().json()
        right = answer["weights_version"] == version
        if right and not seen:
            since_s = asked_s
        seen = seen + 1 if right else 0
    return since_s if in_a_row > 1 else time.monotonic()


if __name__ == "__main__":
    main()
