"""The learner's process, ``python -m upwell.online.child``, as ``upwell serve`` starts it: see ``service.child``."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading

from upwell.events import open_consumer
from upwell.events.slots import identity
from upwell.online.learner import Learner, Pace
from upwell.service.child import LOG_FORMAT, follow_parent
from upwell.service.settings import Settings
from upwell.state import open_store

NICE = 10
"""What serves users comes first."""


def main() -> None:
    with os.fdopen(os.dup(0), "rb") as pipe:
        settings = Settings.model_validate_json(pipe.readline())
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=LOG_FORMAT)
    stopped = threading.Event()
    threading.Thread(target=follow_parent, daemon=True).start()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopped.set())
    os.nice(NICE)
    store = open_store(settings.store_url)
    try:
        journal = settings.data / "journal"
        journal.mkdir(parents=True, exist_ok=True)
        learner = Learner(
            settings, store, lambda group, at: open_consumer(settings.events_url, journal, group, at),
            identity(journal), Pace(steps=settings.learn_steps),
        )  # fmt: skip
        print("ready", flush=True)
        learner.run(lambda: not stopped.is_set())
    finally:
        store.close()


if __name__ == "__main__":
    main()
