"""Topics, made where they are missing."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from upwell.events.broker import Broker
from upwell.events.port import CONTROL, TOPICS, LogDown

TIMEOUT_S = 3.0


def ensure_topics(broker: Broker) -> None:
    """Make what is missing; leaves topics that exist as they are. Raises LogDown."""
    heard: list[str] = []
    try:
        admin = AdminClient(broker.settings(heard.append))
        there = admin.list_topics(timeout=TIMEOUT_S).topics
        missing = [topic(name, broker) for name in TOPICS if name not in there]
        for made in admin.create_topics(missing, request_timeout=TIMEOUT_S).values() if missing else ():
            made.result()
    except KafkaException as error:
        code: KafkaError = error.args[0]
        if code.code() != KafkaError.TOPIC_ALREADY_EXISTS:  # by another process, just now
            raise LogDown(
                f"Kafka at {broker.servers}: {broker.scrubbed(' '.join([code.str(), *heard[-1:]]))}"
            ) from None


def topic(name: str, broker: Broker) -> NewTopic:
    """Replicas: as many as the brokers do by default."""
    if name == CONTROL:
        return NewTopic(name, num_partitions=1, config={"cleanup.policy": "compact"})
    return NewTopic(
        name,
        num_partitions=broker.partitions,
        config={
            "retention.ms": str(broker.retention_ms),
            # Only whole segments go, so a seventh more is how long the last of an erased user may stay.
            "segment.ms": str(max(broker.retention_ms // 7, 1_000)),
            # By the broker's clock: a record with a time far ahead would keep its segment, and an old one lose it.
            "message.timestamp.type": "LogAppendTime",
        },
    )
