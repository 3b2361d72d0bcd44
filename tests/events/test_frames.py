"""Frames come back as they went, and nothing that is no frame is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.errors import BadRequest
from upwell.events.frames import HEAD, Stop, decode, encode, keyed, next_whole
from upwell.events.port import RECORD_BYTES

RECORDS = st.lists(st.tuples(st.text(), st.integers(-(2**63), 2**63 - 1), st.binary()), max_size=20)


def read(data: bytes, limit: int = 10_000, base: int = 0):
    entries = []
    at, why = decode(data, 0, "p", base, limit, entries)
    return entries, at, why


@given(st.text(max_size=60), RECORDS, st.integers(0, 2**50))
def test_any_key_and_any_bytes_come_back(topic, records, base):
    data = encode(topic, records)
    entries, at, why = read(data, base=base)
    assert [(e.topic, e.key, e.ts_ms, e.value) for e in entries] == [(topic, *record) for record in records]
    assert (at, why) == (len(data), Stop.END)
    ends = [base, *(e.next for e in entries)]
    assert [e.offset for e in entries] == ends[:-1]
    assert ends[-1] == base + len(data)


@given(RECORDS, st.data())
def test_a_cut_leaves_the_whole_frames_before_it(records, data):
    whole = encode("topic", records)
    cut = data.draw(st.integers(0, len(whole)))
    entries, at, why = read(whole[:cut])
    assert why is Stop.END
    assert at <= cut
    assert entries == read(whole)[0][: len(entries)]
    assert len(entries) == len(records) or cut < read(whole)[0][len(entries)].next


@given(st.binary(max_size=40), st.integers(0, 2**16), st.integers(1, 255))
def test_no_changed_byte_goes_unnoticed(value, where, change):
    data = bytearray(encode("topic", [("key", 1, value), ("next", 2, b"next")]))
    where %= len(data) - len(encode("topic", [("next", 2, b"next")]))
    data[where] ^= change
    entries, at, _ = read(bytes(data))
    assert at == 0 or (where == 1 and change == 3)  # whole and erased differ by one byte, on purpose
    assert all(entry.value != value or entry.key != "key" for entry in entries)


def test_the_next_whole_frame_is_found_behind_damage():
    first, second = (encode("topic", [(key, 1, b"{}")]) for key in ("a", "b"))
    broken = b"\x00" + first[1:]
    assert next_whole(broken + second, 1) == len(first)
    assert next_whole(broken, 1) is None


def test_a_limit_stops_between_frames():
    data = encode("topic", [(str(n), n, b"") for n in range(5)])
    entries, at, why = read(data, limit=2)
    assert (len(entries), why) == (2, Stop.LIMIT)
    assert read(data[at:])[0][0].key == "2"


@pytest.mark.parametrize(
    "record", [("k", 0, bytes(RECORD_BYTES)), ("k" * 70_000, 0, b""), ("\ud800", 0, b"")], ids=["value", "key", "lone"]
)
def test_what_no_frame_can_hold_is_refused(record):
    with pytest.raises(BadRequest):
        encode("topic", [("good", 0, b""), record])


def test_frames_under_a_key_are_found_by_the_whole_key():
    data = encode("topic", [("ab", 1, b"1"), ("a", 2, b"2"), ("", 3, b"a"), ("a", 4, b"4")])
    found, end = keyed(data, b"a")
    assert len(found) == 2
    assert end == len(data)
    assert all(body - at == HEAD.size for at, body, _ in found)
