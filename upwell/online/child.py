"""A process beside the service, ``python -m upwell.online.child learner|judge|proposer FD``: see ``service.child``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial

from upwell.events import open_consumer
from upwell.events.slots import identity
from upwell.online.reader import Reader
from upwell.service.child import begun, ready, stop_asked
from upwell.service.settings import Settings
from upwell.state import open_store

NICE = 10
"""What serves users comes first."""


def main() -> None:
    role, settings = sys.argv[1], begun()
    os.nice(NICE)
    {"learner": learn, "judge": judge, "proposer": propose}[role](settings)


def learn(settings: Settings) -> None:
    from upwell.online.learner import Learner, Pace

    reads(settings, partial(Learner, settings, pace=Pace(steps=settings.learn_steps)))


def judge(settings: Settings) -> None:
    from upwell.online.judge import Judge

    reads(settings, partial(Judge, settings))


def reads(settings: Settings, make: Callable[..., Reader]) -> None:
    """Until it is told to stop. ``make``: of the store, what opens the log, and the owner of the lease."""
    stopped, store = stop_asked(), open_store(settings.store_url)
    try:
        journal = settings.data / "journal"
        journal.mkdir(parents=True, exist_ok=True)
        reader = make(
            store, lambda group, at: open_consumer(settings.events_url, journal, group, at), identity(journal)
        )
        ready()
        reader.run(lambda: not stopped.is_set())
    finally:
        store.close()


def propose(settings: Settings) -> None:
    """Until it is killed: between two writes it has nothing to save."""
    from upwell.online.proposer import Proposer

    proposer = Proposer(settings, open_store(settings.store_url))
    ready()
    proposer.run()


if __name__ == "__main__":
    main()
