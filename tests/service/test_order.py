"""By hand: what a worker folds when, as entries come in by two partitions."""

from upwell.events.port import INTERACTIONS, Entry
from upwell.service.order import HOLD_S, STALL_S, Order


class Case:
    """A worker's clock, and entries by name: partition and time."""

    def __init__(self) -> None:
        self.now_s, self.lag = 100.0, {}
        self.order = Order(lambda: round(self.now_s * 1_000), lambda: self.now_s)
        self.offset = 0

    def take(self, *new: tuple[str, int]) -> list[tuple[str, int]]:
        made = []
        for partition, ts_ms in new:
            self.offset += 1
            made.append(Entry(partition, self.offset, self.offset + 1, INTERACTIONS, "u", ts_ms, b""))
        return [(entry.partition, entry.ts_ms) for entry in self.order.take(made, lambda: self.lag)]


def test_an_entry_waits_a_moment_for_what_another_partition_brings():
    case = Case()
    assert case.take(("a", 99_990)) == []
    case.now_s += HOLD_S / 2
    assert case.take(("b", 99_980)) == []
    case.now_s += HOLD_S / 2 + 0.001
    assert case.take() == [("b", 99_980), ("a", 99_990)]


def test_a_partition_that_is_behind_is_waited_for_but_not_for_ever():
    case = Case()
    old = 100_000 - 20_000
    case.lag = {"b": 3}
    assert case.take(("a", old), ("a", old + 10)) == []
    case.now_s += HOLD_S + 0.001
    assert case.take() == []
    case.lag = {"b": 1}
    assert case.take(("b", old + 5)) == [("a", old), ("b", old + 5)]
    case.now_s += HOLD_S + 0.001
    assert case.take() == []
    case.now_s += STALL_S
    assert case.take() == [("a", old + 10)]


def test_one_partition_keeps_its_own_order():
    case = Case()
    assert case.take(("a", 99_990), ("a", 99_900)) == []
    case.now_s += HOLD_S + 0.001
    assert case.take() == [("a", 99_990), ("a", 99_900)]
