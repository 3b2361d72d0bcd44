"""Factors of users' own: from the store to the slate, of users here and of those who come later."""

import numpy as np
from service_samples import NOW, known_user, request, server, shown

from upwell.agents.user import CORRECTIONS, UserDials
from upwell.service import own
from upwell.state import Batch, open_store

WIDTH = len(CORRECTIONS)


def wrote(store, number: int, **factors: float) -> int:
    """As the learner writes them; returns how many tidings there were by then."""
    batch = Batch()
    for user, factor in factors.items():
        batch.put(own.KIND, user, np.full(WIDTH, factor, np.float32).tobytes())
    own.told(batch, number, sorted(factors))
    store.write(batch)
    return number + len(factors)


def test_servers_hear_of_users_who_are_here():
    store = open_store("memory:")
    heard = own.Heard(store)
    assert heard.look(store.offsets(), ["u1"]) == {}
    number = wrote(store, 0, u1=1.5, u2=0.5)
    found = heard.look(store.offsets(), ["u1", "u3"])
    assert {user: np.frombuffer(body, np.float32)[0] for user, body in found.items()} == {"u1": 1.5}
    assert heard.look(store.offsets(), ["u1", "u2"]) == {}  # nothing new
    wrote(store, number, u2=0.75)
    assert list(heard.look(store.offsets(), ["u1", "u2"])) == ["u2"]


def test_more_tidings_than_are_kept_and_all_are_read():
    store = open_store("memory:")
    heard, number = own.Heard(store), 0
    for part in range(3):
        number = wrote(store, number, **{f"u{n}": 1.5 for n in range(400 * part, 400 * part + 400)})
    assert set(heard.look(store.offsets(), ["u0", "u1199", "other"])) == {"u0", "u1199"}


def test_a_users_dials_are_turned_by_their_factors_and_nobody_elses():
    live = server(4, policy="marl")
    live.look(live.settings.scale, NOW)
    people, names = [f"known{n}" for n in range(12)], [f"c{n}" for n in range(60)]
    for person in people:
        known_user(live, person)

    def scores() -> dict[str, bytes]:
        lines = shown(live, [request(person, names) for person in people], NOW)
        return {line.user_id: line.question.scores for line in lines}

    before = scores()
    for person in people:
        known_user(live, person)  # as they were
    own.take(live.users, {"known3": np.full(WIDTH, 1.7, np.float32).tobytes(), "nobody": b"", "known4": b"odd"})
    after = scores()
    assert not live.failures
    assert {person for person in people if before[person] != after[person]} == {"known3"}


def test_who_is_forgotten_and_comes_again_begins_with_what_the_store_has():
    live = server(4, policy="marl")
    row = known_user(live, "u")
    own.take(live.users, {"u": np.full(WIDTH, 1.7, np.float32).tobytes()})
    assert live.users.own[row].tolist() == [np.float32(1.7)] * WIDTH
    live.users.forget("u")
    again = known_user(live, "u")
    assert live.users.own[again].tolist() == [1.0] * WIDTH


def test_dials_by_hand():
    dials = UserDials(*(np.full(2, float(n), np.float32) for n in range(len(UserDials._fields))))
    factors = np.ones((2, WIDTH), np.float32)
    assert own.turned(dials, factors) is dials
    factors[1, CORRECTIONS.index("worth")] = 0.5
    turned = own.turned(dials, factors)
    assert turned.worth.tolist() == [dials.worth[0], dials.worth[1] / 2]
    assert turned.taste.tolist() == dials.taste.tolist()
    assert turned.explore.tolist() == dials.explore.tolist()
