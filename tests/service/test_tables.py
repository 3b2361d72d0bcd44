"""Rows of users and contents: taken, given up and taken again; and what a content without an embedding gets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from service_samples import NOW, content

from upwell.model import Content
from upwell.regulator.assignment import assign, unit_id
from upwell.service import records
from upwell.service.records import COUNTS, DIMS, key_of
from upwell.service.tables import NOBODY, Contents, Rows, Users, embedding_of, grown, rows_of

quick = hypothesis_settings(max_examples=100)
SALT = 7_001


def user(visited_ms: int = 0, **given) -> np.ndarray:
    record = records.new_user(NOW, 0.1)
    record["visited_ms"] = visited_ms
    for name, value in given.items():
        record[name] = value
    return record


# ---- rows


class Names(RuleBasedStateMachine):
    """Against a dictionary: no two ids have one row, and rows given up are taken again."""

    def __init__(self):
        super().__init__()
        self.rows, self.model, self.most = Rows(), {}, 0

    @rule(name=st.sampled_from([f"n{i}" for i in range(12)]))
    def take(self, name):
        if name not in self.model:
            self.model[name] = self.rows.take(name)
            self.most = max(self.most, len(self.model))

    @rule(name=st.sampled_from([f"n{i}" for i in range(12)]))
    def drop(self, name):
        dropped = self.rows.dropped
        assert self.rows.drop(name) == self.model.pop(name, None)
        assert self.rows.dropped - dropped in (0, 1)

    @invariant()
    def agrees(self):
        assert self.rows.at == self.model
        assert len(self.rows) == len(self.model)
        assert len(set(self.model.values())) == len(self.model)
        assert NOBODY not in self.model.values()
        assert all(self.rows.names[row] == name for name, row in self.model.items())
        assert sum(name != "" for name in self.rows.names) == len(self.model)
        assert len(self.rows.names) == self.most + 1  # no gap is left untaken


TestNames = Names.TestCase
TestNames.settings = hypothesis_settings(max_examples=50, stateful_step_count=40)


def test_rows_of_ids_not_known_are_nobodys():
    rows = Rows()
    rows.take("a")
    assert rows_of(rows, ["a", "b"]) == [1, NOBODY]


@pytest.mark.parametrize(("rows", "expected"), [(3, 4), (4, 4), (5, 8), (8, 8), (9, 9), (100, 100)])
def test_arrays_grow_by_half_at_least_and_keep_what_they_held(rows, expected):
    before = np.arange(8, dtype=np.int32).reshape(4, 2) + 1
    after = grown(before, rows)
    assert after.shape == (expected, 2)
    assert after.dtype == before.dtype
    assert (after[:4] == before).all()
    assert not after[4:].any()


# ---- users


def test_users_beyond_the_first_rows():
    users = Users(0.3, SALT)
    for n in range(3_000):
        assert users.put(f"u{n}", user(n)) == n + 1
    assert len(users.rows) == 3_000
    for n in (0, 1_022, 1_023, 1_024, 2_047, 2_999):
        assert users.record["visited_ms"][users.rows.at[f"u{n}"]] == n
    expected = [float(assign(np, np.uint32(unit_id(f"u{n}")), SALT)) < 0.3 for n in range(3_000)]
    assert users.held_out[1:3_001].tolist() == expected
    assert 0.25 < np.mean(expected) < 0.35


def test_a_user_put_again_keeps_the_row():
    users = Users(0.0, SALT)
    row = users.put("a", user(1))
    users.segment[row] = 3
    assert users.put("a", user(2)) == row
    assert users.record["visited_ms"][row] == 2
    assert users.segment[row] == 3


def test_a_row_taken_again_has_nothing_of_who_had_it():
    users = Users(0.5, SALT)
    held = next(f"u{n}" for n in range(100) if float(assign(np, np.uint32(unit_id(f"u{n}")), SALT)) < 0.5)
    free = next(f"u{n}" for n in range(100) if float(assign(np, np.uint32(unit_id(f"u{n}")), SALT)) >= 0.5)
    row = users.put(held, user(profile=1.0, ring=7))
    users.segment[row] = 5
    users.dirty.add(row)
    assert users.held_out[row]
    users.forget(held)
    assert row not in users.dirty
    assert not users.record[row]["profile"].any()
    assert not users.record[row]["ring"].any()
    users.forget(held)  # twice does no harm
    users.forget("never seen")
    assert users.put(free, user()) == row
    assert not users.held_out[row]
    assert users.segment[row] == 0
    assert not users.record[row]["profile"].any()


def test_nobody_has_a_record_that_no_user_changes():
    users = Users(1.0, SALT)
    before = users.record[NOBODY].tobytes()
    for n in range(2_000):
        users.put(f"u{n}", user(n + 1))
    assert users.record[NOBODY].tobytes() == before
    assert not users.held_out[NOBODY]


def test_who_is_forgotten_first():
    users = Users(0.0, SALT)
    for n, visited in enumerate([50, 10, 40, 20, 30]):
        users.put(f"u{n}", user(visited))
    users.dirty.add(users.rows.at["u1"])
    assert sorted(users.oldest(2)) == ["u3", "u4"]
    assert sorted(users.oldest(99)) == ["u0", "u2", "u3", "u4"]
    users.dirty.update(users.rows.at.values())
    assert users.oldest(2) == []
    assert Users(0.0, SALT).oldest(3) == []


# ---- contents


def test_contents_beyond_the_first_rows():
    contents = Contents()
    for n in range(700):
        row = contents.put(content(n, published_at=n, creator_followers=n))
        contents.count(row, n % len(COUNTS), n)
    assert contents.all_rows.tolist() == list(range(1, 701))
    sizes = {
        len(getattr(contents, name)) for name in ("key", "embedding", "live", "cheat", "counts", "unsaved", "left")
    }
    assert len(sizes) == 1
    for n in (0, 254, 255, 256, 511, 512, 699):
        row = contents.rows.at[f"c{n}"]
        assert contents.key[row] == key_of(f"c{n}")
        assert contents.published_ms[row] == n
        assert contents.followers[row] == max(n, 1)
        assert contents.counts[row].sum() == contents.unsaved[row].sum() == n
        assert contents.info[row].id == f"c{n}"
        np.testing.assert_array_equal(contents.embedding[row], embedding_of(content(n)))
    assert not contents.embedding[NOBODY].any()
    assert not contents.counts[NOBODY].any()


def test_a_content_put_again_keeps_its_counts():
    contents = Contents()
    row = contents.put(content(1))
    contents.count(row, 0, 5)
    contents.left[row] = 3
    assert contents.put(content(1, title="another", embedding=(1.0,))) == row
    assert contents.info[row].title == "another"
    assert contents.embedding[row][0] == 1.0
    assert contents.counts[row, 0] == contents.unsaved[row, 0] == 5
    assert contents.left[row] == 3


def test_a_row_taken_by_another_content_has_nothing_of_the_first():
    contents = Contents()
    row = contents.put(content(1))
    contents.count(row, 0, 5)
    contents.left[row], contents.cheat[row] = 3, True
    contents.forget("c1")
    assert not contents.live[row]
    assert not contents.embedding[row].any()
    assert not contents.unsaved[row].any()
    assert contents.left[row] == 0
    assert row not in contents.info
    assert len(contents.all_rows) == 0
    contents.forget("c1")
    assert contents.put(content(2)) == row
    assert contents.live[row]
    assert not contents.counts[row].any()
    assert not contents.cheat[row]
    assert contents.key[row] == key_of("c2")


# ---- embeddings


def cosine(one: Content, other: Content) -> float:
    return float(embedding_of(one) @ embedding_of(other))


def tagged(*tags: str, creator: str = "someone") -> Content:
    return Content(id="c", creator_id=creator, published_at=0, tags=tags)


def test_an_embedding_of_few_numbers_is_kept_as_it_is():
    given = np.random.default_rng(0).normal(size=DIMS)
    for size in (1, 3, DIMS):
        got = embedding_of(content(1, embedding=tuple(given[:size].tolist())))
        expected = given[:size] / np.linalg.norm(given[:size])
        np.testing.assert_allclose(got[:size], expected, rtol=1e-6)
        assert not got[size:].any()


tags = st.text(st.sampled_from("音乐舞蹈美食abcé😀 "), min_size=1, max_size=8)
embeddings = st.none() | st.lists(st.floats(-1e308, 1e308, allow_subnormal=True), max_size=200).map(tuple)


@quick
@given(st.lists(tags, max_size=8), embeddings, st.text(min_size=1, max_size=20))
def test_every_embedding_is_of_unit_length_or_zero(tags, embedding, creator):
    one = Content(id="c", creator_id=creator, published_at=0, tags=tuple(tags), embedding=embedding)
    got = embedding_of(one)
    assert got.shape == (DIMS,)
    assert got.dtype == np.float32
    assert np.isfinite(got).all()
    length = float(np.linalg.norm(got))
    assert length == pytest.approx(1.0, abs=1e-5) or (length == 0.0 and embedding)
    np.testing.assert_array_equal(got, embedding_of(one))


@pytest.mark.parametrize(
    "embedding",
    [(1e300, 1e300), (1e38,) * 64, (3e38,) * 300, (1e-300, 0.0), (1e-40,) * 64, (5e-324,) * 100, (-1e308, 1.0)],
)
def test_numbers_of_any_size_are_a_direction(embedding):
    """Regression: large ones became NaN, which spread to the profile of whoever clicked."""
    got = embedding_of(content(1, embedding=embedding))
    assert np.linalg.norm(got) == pytest.approx(1.0, abs=1e-5)
    largest = np.abs(embedding) == np.abs(embedding).max()
    if len(embedding) <= DIMS:
        np.testing.assert_allclose(
            got[: len(embedding)], np.sign(embedding) * largest / np.sqrt(largest.sum()), atol=1e-6
        )


def test_an_embedding_of_zeros_is_zero():
    assert not embedding_of(content(1, embedding=(0.0,) * 10)).any()
    assert not embedding_of(content(1, embedding=(0.0,) * 100)).any()


def test_an_empty_embedding_is_none():
    empty, none = (embedding_of(content(1, embedding=given, tags=("a",))) for given in ((), None))
    np.testing.assert_array_equal(empty, none)


@pytest.mark.parametrize("size", [100, 384, 1_536])
def test_folded_embeddings_keep_inner_products_roughly(size):
    rng = np.random.default_rng(size)
    errors = []
    for _ in range(200):
        one = rng.normal(size=size)
        other = rng.uniform(-1, 1) * one + rng.uniform(0, 1) * rng.normal(size=size)
        expected = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        got = cosine(content(1, embedding=tuple(one)), content(1, embedding=tuple(other)))
        errors.append(got - expected)
    assert abs(np.mean(errors)) < 0.03  # unbiased
    assert np.std(errors) < 1.3 / np.sqrt(DIMS)


def test_every_number_of_a_long_embedding_counts():
    for place in range(100):
        one = [0.0] * 100
        one[place] = 1.0
        assert np.count_nonzero(embedding_of(content(1, embedding=tuple(one)))) == 1


def test_tags_in_any_script_tell_contents_apart():
    music, dance, food = tagged("音乐", "现场"), tagged("音乐", "舞蹈"), tagged("美食", "做饭")
    assert cosine(music, music) == pytest.approx(1.0, abs=1e-6)
    assert cosine(music, dance) > 0.3
    assert abs(cosine(music, food)) < 0.35
    assert cosine(tagged("音乐"), tagged("音樂")) < 0.6
    assert cosine(tagged("a", "b"), tagged("b", "a")) == pytest.approx(1.0, abs=1e-6)


def test_shared_tags_bring_contents_together_and_none_keep_them_apart():
    rng = np.random.default_rng(1)
    alike, apart = [], []
    for _ in range(300):
        names = [f"标签{n}" for n in rng.choice(10_000, 6, replace=False)]
        alike.append(cosine(tagged(*names[:4], creator="a"), tagged(*names[:2], *names[4:], creator="b")))
        apart.append(cosine(tagged(*names[:3], creator="a"), tagged(*names[3:], creator="b")))
    assert np.mean(alike) == pytest.approx(0.5, abs=0.05)
    assert abs(np.mean(apart)) < 0.03
    assert np.percentile(alike, 10) > np.percentile(apart, 90)


def test_without_tags_the_creator_tells():
    same, other = tagged(creator="作者甲"), tagged(creator="作者乙")
    assert cosine(same, tagged(creator="作者甲")) == pytest.approx(1.0, abs=1e-6)
    assert abs(cosine(same, other)) < 0.9
    assert cosine(tagged("a", creator="x"), tagged("a", creator="y")) > 0.7  # a tag says more


@pytest.mark.parametrize("length", range(1, 65))
def test_names_of_every_length_have_places_of_their_own(length):
    """Regression: the four places of a name lay fixed steps apart, and for names of nine letters they cancelled out."""
    names = ["".join(chr(97 + (n * 7 + k * k) % 26) for k in range(length)) for n in range(26)]
    for one in (*(tagged(name) for name in names), *(tagged(creator=name) for name in names)):
        assert np.count_nonzero(embedding_of(one)) >= 2
    patterns = {tuple(np.flatnonzero(embedding_of(tagged(creator=name))).tolist()) for name in names}
    assert len(patterns) > 20


def test_hashes_never_change():
    """They are in every stored profile: a new way to hash would make strangers of all contents."""
    got = embedding_of(tagged("音乐", "b", creator="x"))
    places = {2: -1, 4: -1, 9: 2, 17: -0.3, 32: -1, 34: 1, 40: -0.3, 46: -1, 52: -0.3, 59: 0.7}
    expected = np.zeros(DIMS)
    expected[list(places)] = list(places.values())
    np.testing.assert_allclose(got, expected / np.linalg.norm(expected), atol=1e-6)
    folded = embedding_of(content(1, embedding=tuple(float(n + 1) for n in range(80))))
    np.testing.assert_allclose(folded[:4], [0.00235, 0.0, -0.01646, 0.00705], atol=1e-4)
