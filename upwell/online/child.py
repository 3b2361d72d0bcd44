"""A process beside the service, ``python -m upwell.online.child learner|judge|proposer FD``: see ``service.child``."""

from __future__ import annotations

import os
import sys

from upwell.events import open_consumer
from upwell.events.slots import identity
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

    stopped, store = stop_asked(), open_store(settings.store_url)
    try:
        journal = settings.data / "journal"
        journal.mkdir(parents=True, exist_ok=True)
        learner = Learner(
            settings, store, lambda group, at: open_consumer(settings.events_url, journal, group, at),
            identity(journal), Pace(steps=settings.learn_steps),
        )  # fmt: skip
        ready()
        learner.run(lambda: not stopped.is_set())
    finally:
        store.close()


def judge(settings: Settings) -> None:
    from upwell.online.judge import Judge

    stopped, store = stop_asked(), open_store(settings.store_url)
    try:
        journal = settings.data / "journal"
        journal.mkdir(parents=True, exist_ok=True)
        one = Judge(
            settings, store, lambda group, at: open_consumer(settings.events_url, journal, group, at), identity(journal)
        )
        ready()
        one.run(lambda: not stopped.is_set())
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
