"""The thread that sends a process's journal to Kafka, and those of dead processes beside it."""

from __future__ import annotations

import logging
import threading
import time

from confluent_kafka import Producer

from upwell.events import files
from upwell.events.broker import Broker
from upwell.events.shipment import Shipment, forwarded
from upwell.events.slots import Slots
from upwell.events.topics import ensure_topics

log = logging.getLogger(__name__)

IDLE_S = 0.005
"""Between looks at a journal that had nothing new."""
RETRY_S = 1.0
ORPHANS_S = 30.0
"""Between looks for journals of dead processes; so long they have to be started again and do it themselves."""
STALLED_S = 5.0
"""Without a delivery for so long, with something to deliver, Kafka is taken for away."""
FLUSH_S = 3.0
"""Most that closing waits for what is under way; the rest is sent by the next process in this slot."""
PRODUCER: dict[str, str | int | bool] = {
    "enable_idempotence": True,  # in order and once within a process's life, whatever the broker goes through
    "acks": "all",
    "message_timeout_ms": 0,
    "linger_ms": 2,
    "compression_type": "lz4",
    "partitioner": "murmur2_random",  # as Java's clients do, so that theirs find a user's partition
    "queue_buffering_max_kbytes": 65_536,
}


class Forwarder:
    """Runs until closed, through any failure of Kafka."""

    def __init__(self, broker: Broker, slots: Slots, partition: str, folding: bool) -> None:
        self._broker, self._slots, self._partition, self._folding = broker, slots, partition, folding
        self._path = slots.partitions()[partition]
        self.forwarded = forwarded(self._path)
        self.error = ""
        self._moved_s = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"forward {partition}", daemon=True)
        self._thread.start()

    def backlog(self) -> int:
        """Bytes of this process's journal that are not in Kafka yet."""
        return files.unread(self._path, self.forwarded)

    def stalled(self) -> bool:
        """Whether Kafka takes nothing at present."""
        return time.monotonic() - self._moved_s > STALLED_S

    def close(self) -> None:
        """Sends what it can in a few seconds, and ends."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                ensure_topics(self._broker)
                self._forward()
            except Exception as error:  # whatever it is: this thread must not end while the journal fills
                self._heard(self._broker.scrubbed(str(error)))
                self._stop.wait(RETRY_S)

    def _forward(self) -> None:
        """Send until closed or failed."""
        producer = Producer(self._broker.settings(self._heard, **PRODUCER))
        under_way = {self._partition: Shipment(producer, self._path, self._partition)}
        try:
            looked_s = time.monotonic()
            while not self._stop.is_set():
                if time.monotonic() - looked_s > ORPHANS_S:
                    self._adopt(producer, under_way)
                    looked_s = time.monotonic()
                sent = sum([shipment.send() for shipment in under_way.values()])
                producer.poll(0 if sent else IDLE_S)
                self._settle(under_way)
            producer.flush(FLUSH_S)
            self._settle(under_way)
        finally:
            for shipment in under_way.values():
                shipment.close()
            producer.purge()
            producer.close()

    def _adopt(self, producer: Producer, under_way: dict[str, Shipment]) -> None:
        """Take over what dead processes have not sent."""
        for partition, path in self._slots.partitions().items():
            if partition not in under_way and files.end(path) > forwarded(path):
                journal = self._slots.adopt(path)
                if journal is not None:
                    under_way[partition] = Shipment(producer, path, partition, journal)

    def _settle(self, under_way: dict[str, Shipment]) -> None:
        for partition, shipment in list(under_way.items()):
            came = shipment.forwarded
            shipment.settle()
            if shipment.forwarded > came and not self._folding:
                files.drop_before(shipment.path, shipment.forwarded)
            if partition != self._partition:
                if shipment.done():
                    under_way.pop(partition).close()
                continue
            self._moved_s = shipment.moved_s
            if shipment.forwarded > came:
                self.forwarded, self.error = shipment.forwarded, ""

    def _heard(self, error: str) -> None:
        """Said once until something is delivered again; the latest stays to be asked for."""
        if not self.error:
            log.warning("cannot send to Kafka (%s): the journal keeps what it will get", error)
        self.error = error
