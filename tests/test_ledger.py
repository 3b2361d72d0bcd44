"""The ledger never overspends and never loses a coin, whatever is done to it in whatever order."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from upwell.regulator import ledger

M = 5
each = st.lists(st.integers(0, 400), min_size=M, max_size=M).map(lambda v: np.array(v, np.int32))
prices = st.lists(st.integers(1, 50_000), min_size=M, max_size=M).map(lambda v: np.array(v, np.int32))
which = st.lists(st.booleans(), min_size=M, max_size=M).map(np.array)


def no(contents):
    return np.zeros(contents, bool)


class Books(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.books = ledger.opened(np, M, 100.0)
        # Kept apart from the ledger's own arithmetic, in Python's whole numbers.
        self.coins = [100 * ledger.COIN] * M
        self.held = [0] * M

    @rule(pool=st.integers(0, 2_000))
    def refill(self, pool):
        self.books = ledger.refill(np, self.books, np.int32(pool))
        assert int(self.books.pool) + sum(self.held) <= max(pool, sum(self.held))

    @rule(wanted=each, price=prices, order=st.permutations(range(M)), whole=which)
    def grant(self, wanted, price, order, whole):
        pool = int(self.books.pool)
        payable = np.minimum(wanted, self.books.budget // price)
        self.books, given = ledger.grant(np, self.books, wanted, price, np.array(order), whole)
        assert ((given == 0) | (given == payable))[whole].all()
        assert int(given.sum()) == pool - int(self.books.pool)
        assert (given <= wanted).all()
        for i in range(M):
            assert given[i] == 0 or self.held[i] == 0
            self.held[i] += int(given[i])
            self.coins[i] -= int(given[i]) * int(price[i])

    @rule(shown=each)
    def spend(self, shown):
        self.books = ledger.spend(np, self.books, shown)
        self.held = [h - min(h, int(s)) for h, s in zip(self.held, shown, strict=True)]

    @rule(who=which, forfeit=which)
    def release(self, who, forfeit):
        back = self.books.outstanding * who
        self.coins = [
            0 if f else c + int(b) * int(p)
            for c, b, p, f in zip(self.coins, back, self.books.price, forfeit, strict=True)
        ]
        self.held = [0 if w else h for h, w in zip(self.held, who, strict=True)]
        self.books = ledger.release(np, self.books, who, forfeit)

    @invariant()
    def balanced(self):
        assert ledger.balanced(self.books)
        assert self.books.budget.tolist() == self.coins
        assert self.books.outstanding.tolist() == self.held


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=100, stateful_step_count=30)


def test_the_first_in_order_is_served_first_and_the_pool_binds():
    books = ledger.opened(np, 3, 100.0)._replace(pool=np.int32(10))
    books, given = ledger.grant(np, books, np.array([8, 8, 8]), np.array([1, 1, 1]), np.array([2, 0, 1]), no(3))
    assert given.tolist() == [2, 0, 8]
    assert int(books.pool) == 0


def test_who_takes_nothing_but_the_whole_waits_and_those_behind_wait_too():
    books = ledger.opened(np, 3, 100.0)._replace(pool=np.int32(10))
    wanted, price, order = np.array([8, 8, 1]), np.array([1, 1, 1]), np.array([0, 1, 2])
    books, given = ledger.grant(np, books, wanted, price, order, np.array([True, True, False]))
    assert given.tolist() == [8, 0, 0]
    # Six more impressions: what was saved up makes it eight.
    books = books._replace(pool=books.pool + 6)
    books, given = ledger.grant(np, books, wanted, price, order, np.array([True, True, False]))
    assert given.tolist() == [0, 8, 0]
    assert int(books.pool) == 0


def test_a_content_cannot_pay_more_than_its_budget():
    books = ledger.opened(np, 1, 1.0)._replace(pool=np.int32(1_000))
    books, given = ledger.grant(np, books, np.array([1_000]), np.array([3_000]), np.array([0]), no(1))
    assert given.tolist() == [3]
    assert books.budget.tolist() == [1_000]


def test_a_day_of_more_coins_than_int32_units_hold_is_added_up() -> None:
    """Regression: 43,000 contents that spend 5 coins each made the day's sum of units wrap around."""
    contents = 60_000
    books = ledger.refill(np, ledger.opened(np, contents, 100.0), np.asarray(10 * contents))
    everyone = np.full(contents, 10, np.int32)
    price = np.full(contents, 9 * ledger.COIN)
    books, given = ledger.grant(np, books, everyone, price, np.arange(contents), no(contents))
    books = ledger.spend(np, books, given)
    assert float(books.spent_coins) == 90.0 * contents
    assert ledger.balanced(books)
