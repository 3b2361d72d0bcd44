"""Frames: how an entry lies in a journal file. Little-endian, one after the other, nothing between them.

    byte   0      0xF5, which no UTF-8 text holds: a search for the next frame cannot be misled by JSON
           1      1: whole, 2: erased
           2..5   CRC-32 of bytes 6..24
           6..9   CRC-32 of topic, key and value
           10..17 time, Unix ms, signed
           18..21 bytes of value
           22     bytes of topic
           23..24 bytes of key
           25..   topic, key (UTF-8), value

The header has a sum of its own, so that its lengths can be trusted when the rest cannot: an entry is erased by
overwriting one byte and then the rest with zeros, which a crash between leaves readable.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from struct import Struct
from zlib import crc32

from upwell.errors import BadRequest
from upwell.events.port import RECORD_BYTES, Entry, Record

MARK = b"\xf5"
WHOLE, ERASED = 1, 2
HEAD = Struct("<BBIIqIBH")
REST = Struct("<IqIBH")
SUM = Struct("<BBI")
FRAME_BYTES = HEAD.size + RECORD_BYTES


class Stop(Enum):
    """Why decoding ended."""

    LIMIT = "enough entries"
    END = "no whole frame is left"
    BAD = "no frame is here"


def encode(topic: str, records: Sequence[Record]) -> bytes:
    """Frames of records. Raises BadRequest on one that is too large or whose key is no Unicode."""
    name = topic.encode()
    if len(name) > 255:
        raise BadRequest(f"topic {topic[:40]!r}… is longer than 255 bytes")
    parts: list[bytes] = []
    put, rest, start, size = parts.append, REST.pack, SUM.pack, len(name)
    for key, ts_ms, value in records:
        try:
            label = key.encode()
        except UnicodeEncodeError:
            raise BadRequest(f"key {key[:40]!r} is no Unicode text") from None
        body = b"".join((name, label, value))
        if len(body) > RECORD_BYTES or len(label) > 65_535:
            raise BadRequest(f"a record of {len(body)} bytes, key of {len(label)}: at most {RECORD_BYTES} and 65535")
        tail = rest(crc32(body), ts_ms, len(value), size, len(label))
        put(start(0xF5, WHOLE, crc32(tail)))
        put(tail)
        put(body)
    return b"".join(parts)


def decode(data: bytes, at: int, partition: str, base: int, limit: int, out: list[Entry]) -> tuple[int, Stop]:
    """Append the entries from ``at`` on to ``out``, ``limit`` at most. Returns where it ended, and why.

    ``base``: the offset of ``data``'s first byte. Erased frames are passed over.
    """
    end, head = len(data), HEAD.size
    topics: dict[bytes, str] = {}
    while len(out) < limit:
        if end - at < head:
            return at, Stop.END if data[at : at + 1] in (b"", MARK) else Stop.BAD
        mark, kind, check, total, ts_ms, value, topic, key = HEAD.unpack_from(data, at)
        if mark != 0xF5 or crc32(data[at + 6 : at + head]) != check or not WHOLE <= kind <= ERASED:
            return at, Stop.BAD
        start = at + head
        stop = start + topic + key + value
        if stop > end:
            return at, Stop.END
        if kind == WHOLE:
            body = data[start:stop]
            if crc32(body) != total:
                return at, Stop.BAD
            name = body[:topic]
            if name not in topics:
                topics[name] = name.decode()
            label = body[topic : topic + key].decode()
            out.append(Entry(partition, base + at, base + stop, topics[name], label, ts_ms, body[topic + key :]))
        at = stop
    return at, Stop.LIMIT


def next_whole(data: bytes, at: int) -> int | None:
    """Where the next whole frame begins, searching byte by byte from ``at``."""
    found = data.find(MARK, at)
    while found >= 0:
        stop, why = decode(data, found, "", 0, 1, [])
        if stop > found or why is Stop.LIMIT:
            return found
        found = data.find(MARK, found + 1)
    return None


def keyed(data: bytes, key: bytes) -> tuple[list[tuple[int, int, int]], int]:
    """Frames under a key: where the frame, its body, and the next frame begin; and where the last whole frame ends.

    A frame that was marked as erased and still holds its key is among them.
    """
    found: list[tuple[int, int, int]] = []
    at, end, head = 0, len(data), HEAD.size
    while end - at >= head:
        mark, kind, check, _, _, value, topic, size = HEAD.unpack_from(data, at)
        stop = at + head + topic + size + value
        if mark != 0xF5 or crc32(data[at + 6 : at + head]) != check or not WHOLE <= kind <= ERASED or stop > end:
            break
        where = at + head + topic
        if data[where : where + size] == key:
            found.append((at, at + head, stop))
        at = stop
    return found, at
