"""A member of a Kafka consumer group whose offsets are kept elsewhere, together with the state they belong to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NoReturn

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from upwell.events.broker import Broker
from upwell.events.port import Entry, LogDown, OffsetLost, Offsets
from upwell.events.shipment import TIME, TIME_BYTES

TIMEOUT_S = 5.0
AGAIN_S = 0.05
"""Before partitions are fetched anew of which one was not ready."""
PASSING = {
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TRANSPORT,
    KafkaError._RESOLVE,
    KafkaError._MAX_POLL_EXCEEDED,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}
"""Errors that the client gets over by itself."""
SETTINGS: dict[str, str | int | bool] = {
    "enable_auto_commit": False,
    "auto_offset_reset": "error",  # or entries would be skipped, or come again, without a word
    "partition_assignment_strategy": "range",  # the same number of every topic to one member: a user's all together
    "fetch_wait_max_ms": 20,
    "session_timeout_ms": 6_000,
    "heartbeat_interval_ms": 1_500,
    "topic_metadata_refresh_interval_ms": 10_000,
}


class KafkaConsumer:
    """See ``port.Consumer``. Partitions are called TOPIC-NUMBER."""

    def __init__(self, broker: Broker, group: str, offsets: Offsets, topics: Sequence[str]) -> None:
        self._offsets, self._topics = offsets, list(topics)
        self._at: dict[str, int] = {}  # assigned partitions, and where each goes on
        self._again = False  # one of them was not ready
        self._assignments = 0
        self._failed: Exception | None = None
        self._client = Consumer(broker.settings(lambda _: None, group_id=f"upwell-{group}", **SETTINGS))
        self._subscribe()

    def assigned(self) -> list[str]:
        return list(self._at)

    def seek(self, partition: str, offset: int) -> None:
        if partition in self._at:
            self._at[partition] = offset
            try:
                self._client.seek(place(partition, offset))
            except KafkaException:  # after an error the client has stopped to fetch it
                self._go_on()

    def poll(self, max_entries: int, timeout_s: float) -> list[Entry]:
        until = time.monotonic() + timeout_s
        while True:
            if self._failed is not None:
                self._raise()
            left = until - time.monotonic()
            if self._again:
                time.sleep(min(max(left, 0.0), AGAIN_S))
                self._go_on()
            entries = self._fetch(max_entries, max(left, 0.0))
            if entries or (left <= 0 and self._failed is None):
                return entries

    def _fetch(self, limit: int, timeout_s: float) -> list[Entry]:
        """As soon as there are some: ``consume`` would wait for all that it may return."""
        first = self._client.poll(timeout_s)
        if first is None:
            return []
        assignments, messages = self._assignments, [first]
        if limit > 1:
            more = self._client.consume(limit - 1, 0)
            # Fetched before partitions were assigned anew, the first comes again at its turn.
            messages = [*messages, *more] if assignments == self._assignments else more
        return [entry for message in messages if (entry := self._entry(message)) is not None]

    def end_offsets(self) -> dict[str, int]:
        return {partition: self._range(partition)[1] for partition in self._at}

    def lag(self) -> dict[str, int]:
        ranges = {partition: self._range(partition) for partition in self._at}
        return {name: end - max(self._at[name], first) for name, (first, end) in ranges.items()}

    def close(self) -> None:
        self._at = {}
        self._client.close()

    def _subscribe(self) -> None:
        self._client.subscribe(self._topics, on_assign=self._assign, on_revoke=self._revoke, on_lost=self._revoke)

    def _assign(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        names = [name(one.topic, one.partition) for one in partitions]
        self._assignments += 1
        try:
            offsets = self._offsets(names)
        except Exception as error:  # the state store is away: raised from poll, which then joins anew
            self._failed = error
            client.assign([])
            return
        self._at = {partition: offsets.get(partition, 0) for partition in names}
        self._go_on()

    def _go_on(self) -> None:
        """Fetch what is assigned, from where each partition is."""
        self._again = False
        self._client.assign([place(partition, offset) for partition, offset in self._at.items()])

    def _revoke(self, client: Consumer, _: list[TopicPartition]) -> None:
        self._assignments += 1
        self._at, self._again = {}, False
        client.unassign()

    def _entry(self, message: Message) -> Entry | None:
        """What a message says; None for what is an error or not for this member now."""
        topic, number, offset = message.topic(), message.partition(), message.offset()
        partition = name(topic or "", number or 0)
        if (error := message.error()) is not None:
            self._failed = self._failed or self._judged(error, partition)
            return None
        if topic is None or offset is None or offset < self._at.get(partition, offset + 1):
            return None
        self._at[partition] = offset + 1
        key, value = message.key() or b"", message.value() or b""
        return Entry(partition, offset, offset + 1, topic, key.decode("utf-8", "replace"), time_of(message), value)

    def _judged(self, error: KafkaError, partition: str) -> LogDown | None:
        if error.code() != KafkaError._AUTO_OFFSET_RESET or partition not in self._at:
            return None if error.code() in PASSING else LogDown(f"Kafka: {error.str()}")
        try:
            first, end = self._range(partition)
        except LogDown:
            first, end = 0, self._at[partition]
        if first <= self._at[partition] <= end or not self._at[partition]:
            self._again = True  # a topic that is just being made, or a broker that is just coming back
            return None
        return OffsetLost(partition, self._at[partition], first, end)

    def _raise(self) -> None:
        error, self._failed = self._failed, None
        if not isinstance(error, OffsetLost):
            self._client.unsubscribe()
            self._subscribe()
        if error is not None:
            raise error

    def _range(self, partition: str) -> tuple[int, int]:
        try:
            return self._client.get_watermark_offsets(place(partition, 0), TIMEOUT_S) or timed_out()
        except KafkaException as error:
            raise LogDown(f"Kafka: {error}") from None


def timed_out() -> NoReturn:
    raise LogDown(f"Kafka did not answer within {TIMEOUT_S} s")


def name(topic: str, number: int) -> str:
    return f"{topic}-{number}"


def place(partition: str, offset: int) -> TopicPartition:
    topic, _, number = partition.rpartition("-")
    return TopicPartition(topic, int(number), offset or OFFSET_BEGINNING)


def time_of(message: Message) -> int:
    """The record's own time; the broker's for what others have put into the topic."""
    for label, value in message.headers() or ():
        if label == TIME and isinstance(value, bytes) and len(value) == TIME_BYTES.size:
            (found,) = TIME_BYTES.unpack(value)
            return found
    return message.timestamp()[1]
