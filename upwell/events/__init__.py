"""The event log: what happened, in order, before it is state. See docs/events.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from upwell.errors import BadRequest
from upwell.events.journal import Limits
from upwell.events.port import (
    CONTROL,
    DECISIONS,
    INTERACTIONS,
    TOPICS,
    Consumer,
    Corrupt,
    Entry,
    Full,
    Health,
    Log,
    LogDown,
    OffsetLost,
    Offsets,
    Record,
    Topic,
)

__all__ = [
    "CONTROL",
    "DECISIONS",
    "INTERACTIONS",
    "TOPICS",
    "Consumer",
    "Corrupt",
    "Entry",
    "Full",
    "Health",
    "Limits",
    "Log",
    "LogDown",
    "OffsetLost",
    "Offsets",
    "Record",
    "Topic",
    "open_consumer",
    "open_log",
]


KAFKA = "a log in Kafka needs: pip install 'upwell[kafka]'"


def open_log(url: str, directory: Path, limits: Limits | None = None, folding: bool = True) -> Log:
    """The log at ``embedded:DIR`` or ``kafka://HOST:PORT[,HOST:PORT]?…``; with Kafka its journals are in ``directory``.

    ``folding``: this process folds what it appends into state by itself, so that nothing is dropped before it calls
    ``trim``. False, with Kafka: the journal goes as it is forwarded. BadRequest: no such log. Corrupt, LogDown.
    """
    scheme, rest = parted(url)
    if scheme == "embedded":
        from upwell.events.embedded import EmbeddedLog

        return EmbeddedLog(Path(rest) if rest else directory, limits)
    try:
        from upwell.events.kafka import KafkaLog
    except ImportError:
        raise BadRequest(KAFKA) from None
    return KafkaLog(url, directory, limits, folding)


def open_consumer(url: str, directory: Path, group: str, offsets: Offsets, topics: Sequence[str] = TOPICS) -> Consumer:
    """A member of a group (``Log.consumer``) for a process that appends nothing, and so needs no journal of its own.

    BadRequest: no such log.
    """
    scheme, rest = parted(url)
    if scheme == "embedded":
        from upwell.events.embedded import EmbeddedConsumer
        from upwell.events.slots import Slots

        return EmbeddedConsumer(Slots(Path(rest) if rest else directory), group, offsets, topics)
    try:
        from upwell.events.broker import Broker
        from upwell.events.members import KafkaConsumer
    except ImportError:
        raise BadRequest(KAFKA) from None
    return KafkaConsumer(Broker.of(url), group, offsets, topics)


def parted(url: str) -> tuple[str, str]:
    """Scheme and the rest. BadRequest: no log has such a URL."""
    scheme, _, rest = url.partition(":")
    if scheme == "embedded" or (scheme == "kafka" and rest.startswith("//")):
        return scheme, rest
    shown = scheme if scheme.isalnum() and len(scheme) < 20 else "this"  # of a URL, never more: it may hold a secret
    raise BadRequest(f"unknown log {shown}: give embedded:DIR or kafka://HOST:PORT")
