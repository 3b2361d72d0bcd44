"""A process that appends numbers until it is killed, and says how far each call got.

    python log_child.py URL DIRECTORY FIRST

``appended N``: all before N is with the operating system. ``durable N``: also on the disk.
"""

import asyncio
import os
import sys
from pathlib import Path

from event_logs import records

from upwell.events import DECISIONS, INTERACTIONS, Limits, open_log


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


async def main(url: str, directory: str, first: int) -> None:
    log = open_log(url, Path(directory), Limits(segment_bytes=50_000))
    say(f"open {log.partition}")
    while True:
        many = first % 7 * 20 + 1
        position = log.append(DECISIONS if first % 2 else INTERACTIONS, records(many, first))
        first += many
        say(f"appended {first}")
        if first % 3 == 0:
            await log.durable(position)
            say(f"durable {first}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
