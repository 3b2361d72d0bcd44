"""What is stored of a user and of a slate's outcome: the ring, the layouts, their versions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from service_samples import (
    DAY_MS,
    HOUR_MS,
    NOW,
    one_slate,
    request,
    settings,
    shown,
)

from upwell.agents import mind
from upwell.service import fold, records
from upwell.service.live import Live
from upwell.service.records import RING, USER, key_of

quick = hypothesis_settings(max_examples=60)


# ---- the ring


def test_the_ring_remembers_the_last_eighty():
    live = Live(settings(holdout=0.0), "s")
    ids = [f"x{n}" for n in range(200)]
    (line,) = shown(live, [request("u", ids, size=100)])
    record = live.users.record[live.users.rows.at["u"]]
    shorts = [max(key_of(p.id) & 0xFFFF, 1) for p in line.places]
    assert sorted(record["ring"].tolist()) == sorted(shorts[-RING:])
    assert record["ring_at"] == 100 - RING
    (second,) = shown(live, [request("u", ids, size=3)], NOW + 1)
    (third,) = shown(live, [request("u", ids, size=3)], NOW + 2)
    assert [p.id for p in second.places] == [p.id for p in line.places[:3]]  # forgotten for those after them
    assert not {p.id for p in third.places} & {p.id for p in [*line.places[23:], *second.places]}


def test_the_ring_is_empty_at_the_first_request_of_a_window():
    live = Live(settings(holdout=0.0, no_repeat_h=1.0), "s")
    shown(live, [request("u", ["a", "b"], size=2)], NOW)
    row = [live.users.rows.at["u"]]
    same = fold.arrive(live.settings, live.users.record[row], NOW + HOUR_MS - 1)[0]
    anew = fold.arrive(live.settings, live.users.record[row], NOW + HOUR_MS)[0]
    assert np.count_nonzero(same["ring"]) == 2
    assert np.count_nonzero(anew["ring"]) == anew["ring_at"] == 0
    assert anew["ring_window"] == same["ring_window"] + 1


def test_arriving_changes_nothing_that_is_stored():
    live, _ = one_slate()
    before = live.users.record.tobytes()
    fold.arrive(live.settings, live.users.record[[1, 2, 3]], NOW + 30 * DAY_MS)
    assert live.users.record.tobytes() == before


# ---- records


def test_a_record_fits_in_512_bytes_and_comes_back_as_it_was():
    assert USER.itemsize <= 512
    live, _ = one_slate()
    record = live.users.record[live.users.rows.at["someone"]]
    data = record.tobytes()
    assert len(data) == USER.itemsize
    again = records.read_user(data)
    assert again.tobytes() == data
    again["requests"] = 77  # a copy of its own, that can be written to
    assert record["requests"] == 1


WHOLE = bytes(USER.itemsize)


@pytest.mark.parametrize("data", [b"\x03\x00" + WHOLE[2:], b"\x01\x00" + WHOLE, b"\x02\x00" + WHOLE, WHOLE, b"", b"\1"])
def test_a_record_of_another_version_is_refused_by_name(data):
    with pytest.raises(ValueError, match=r"user record of version \d+ and \d+ bytes"):
        records.read_user(data)


def test_every_version_has_its_number_in_front():
    record = records.new_user(5, 0.1)
    assert record.tobytes()[:2] == records.VERSION.to_bytes(2, "little")
    assert record["mind"].tolist() == pytest.approx(mind.FIRST_SIGHT)


@quick
@given(
    st.dictionaries(
        st.integers(0, 199),
        st.builds(
            records.Place, clicked=st.booleans(), dwell_s=st.floats(0, 604_800), completion=st.floats(0, 1),
            shared=st.booleans(), purchased=st.booleans(), value=st.floats(0, 1e9),
        ),
        max_size=5,
    ),
    st.sets(st.text(min_size=1, max_size=128), max_size=5),
)  # fmt: skip
def test_outcomes_come_back_as_they_were(places, events):
    outcome = records.Outcome(places, events)
    assert records.outcome_decoder.decode(records.outcome_encoder.encode(outcome)) == outcome


def test_keys_never_change():
    """They are in every stored ring and draw: CRC-32 of the id in UTF-8."""
    assert key_of("c1") == 0x5ED72AA1
    assert key_of("内容") == 0x3E7AA0AD
