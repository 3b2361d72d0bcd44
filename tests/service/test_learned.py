"""The learned policy, live: it corrects the ranker's order where it may, and only there."""

import jax
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from service_samples import (
    DAY_MS,
    NOW,
    any_request,
    asked,
    content,
    decided,
    known_user,
    request,
    server,
    settings,
    shown,
)

from upwell.agents.network import first_policy, save_policy
from upwell.agents.user import RULES, Sight, corrected
from upwell.errors import BadRequest
from upwell.service import fold, learned, recommend, records, told, wire
from upwell.service.live import Live
from upwell.service.records import COLUMN, RING, TAGS, USER
from upwell.service.tables import NOBODY, bits_of


def play(live: Live, **bias: float) -> Live:
    """Let a policy decide whose networks put out a constant action, 0 but for ``role_dial``."""
    policy = first_policy(0)
    for name, value in bias.items():
        role, _, dial = name.partition("_")
        *rest, last = getattr(policy, role)
        at = list(learned.network.TURNS[role]).index(dial)
        last = last._replace(bias=np.where(np.arange(len(last.bias)) == at, value, last.bias).astype(np.float32))
        policy = policy._replace(**{role: (*rest, last)})
    live.learned, live.mode = learned.Learned(policy, "test-1"), "policy"
    live.look(live.settings.scale, NOW)
    return live


def slates(live: Live, wanted, decision: str):
    """What a request comes to by the rules and by the policy; nothing is folded."""
    one = [asked(live, wanted, decision)]
    by_rules = decided(live, one, wanted.size)
    return by_rules, by_policy(live, one, wanted.size)


def by_policy(live: Live, batch, size: int) -> recommend.Decided:
    window = recommend.Window(1_000_000, 0, 1.0)
    return recommend.decide(
        live.settings, live.users, live.contents, live.grants, window, live.platform_ctr, batch, size, NOW,
        live.playing,
    )  # fmt: skip


@given(st.integers(0, 2**32 - 1))
def test_networks_that_put_out_nothing_play_by_the_rules(seed):
    live = play(server(seed % 7))
    rng = np.random.default_rng(seed)
    wanted = any_request(live, rng, f"u{rng.integers(60)}", int(rng.choice([1, 5, 10])))
    by_rules, played = slates(live, wanted, f"d{seed}")
    for name in ("ids", "kind", "propensity", "stochastic"):
        np.testing.assert_array_equal(getattr(by_rules.picked, name), getattr(played.picked, name))


@given(st.integers(0, 2**32 - 1))
def test_who_may_not_be_tried_on_keeps_the_rankers_order(seed):
    live = play(server(seed % 7), user_worth=1.0, user_starting=1.0, user_satiety=-1.0, user_taste=-1.0)
    rng = np.random.default_rng(seed)
    name = f"u{rng.integers(60)}"
    row = live.users.rows.at[name]
    if rng.random() < 0.5:
        live.users.held_out[row] = True
    else:
        live.users.held_out[row], live.users.record["created_ms"][row] = False, NOW - DAY_MS
    wanted = any_request(live, rng, name, 10)
    one = [asked(live, wanted, f"d{seed}")]
    found = slates(live, wanted, f"d{seed}")[1]
    organic = found.picked.column[0, 0][(found.picked.kind[0, 0] == 0) & ~found.empty[0, 0]]
    free = ~found.question.blocked[0, 0][: len(one[0].ids)] & (found.question.scores[0, 0][: len(one[0].ids)] > -1e6)
    kept = [c for c in organic.tolist() if free[c]]
    assert kept == sorted(kept)


def test_a_cold_start_under_way_rises():
    live = play(server(1, left=0), user_starting=1.0)
    name = "old"
    known_user(live, name)
    young = live.add_content(content(900, NOW - DAY_MS), {})
    live.look(live.settings.scale, NOW)
    ids = [f"c{n}" for n in range(30)] + ["c900"] + [f"c{n}" for n in range(30, 60)]
    by_rules, played = slates(live, request(name, ids), "d1")
    assert young not in by_rules.picked.ids[0, 0][by_rules.picked.kind[0, 0] == 0]
    at = played.picked.ids[0, 0].tolist().index(young)
    parts = {k: float(v[0, 0, at]) for k, v in played.contributions.items()}
    # Four spreads for a full action and one that lags far behind, in the ranker's unit: the same for everybody.
    assert parts["starting"] == pytest.approx(4.0, rel=1e-4)
    assert sum(parts.values()) == pytest.approx(float(played.logit[0, 0, at]), abs=2e-3)


def test_corrections_are_those_of_the_user_agent():
    live = play(server(2), user_worth=0.5, user_unknown=0.3, user_idle=-0.4, user_fresh=0.2)
    rng = np.random.default_rng(0)
    rows = rng.choice(live.contents.all_rows, (1, 40)).astype(np.int32)
    scores = rng.normal(5.0, 3.0, (1, 40))
    row = live.users.rows.at["u3"]
    arrived = fold.arrive(live.settings, live.users.record[[row]], NOW)
    engaged = np.asarray([0b1011], np.uint64)
    dials = RULES._replace(worth=1.0, unknown=0.3, idle=-0.4, fresh=0.2, taste=0.7, satiety=-0.5)
    found = learned.corrected(
        live.contents, live.playing.record, rows, scores, arrived, engaged, np.ones(1, np.float32), dials
    )
    counts = live.contents.counts[rows]
    impressions, ctr = counts[..., COLUMN["impressions"]], live.platform_ctr
    age = (NOW - live.contents.published_ms[rows]) / DAY_MS
    tags = live.contents.tag_bits[rows]
    sight = Sight(
        taste=live.contents.embedding[rows] @ arrived["profile"][0].astype(np.float32),
        worth=np.log((counts[..., COLUMN["valid"]] / 0.6 + 5.0) / (impressions * ctr + 5.0)),
        satiety=np.clip(live.contents.embedding[rows] @ arrived["recent"][0].astype(np.float32), 0.0, 1.0),
        idle=np.where(tags > 0, 1.0 - np.bitwise_count(tags & engaged) / np.maximum(np.bitwise_count(tags), 1), 0.0),
        fresh=np.exp(-age / 3.0),
        unknown=1.0 / np.sqrt(1.0 + impressions * ctr),
        starting=live.playing.record[rows][..., 3],
    )
    wanted = corrected(np, (scores - scores.mean()) / scores.std(), sight, np.ones(1), dials)
    assert set(found) == set(wanted)
    for name, part in wanted.items():
        np.testing.assert_allclose(found[name][0], np.broadcast_to(part, (1, 40))[0], rtol=2e-3, atol=2e-3)


def test_a_shorter_request_of_a_batch_is_corrected_as_alone():
    live = play(server(3), user_worth=1.0, user_taste=0.5)
    known_user(live, "a"), known_user(live, "b")
    rng = np.random.default_rng(4)
    long = request("a", [f"c{n}" for n in range(80)], rng.normal(size=80))
    short = request("b", [f"c{n}" for n in range(12)], rng.normal(size=12))

    def order(batch):
        found = by_policy(live, [asked(live, one, f"d{one.user_id}") for one in batch], 10)
        return found.question.scores[-1, 0, :12]

    np.testing.assert_allclose(order([long, short]), order([short]), atol=2)


def test_what_was_decided_is_built_again_from_the_log():
    live = play(server(5), user_worth=1.0, user_starting=0.5, user_explore=1.0)
    rng = np.random.default_rng(5)
    for n in range(30):
        (line,) = shown(live, [any_request(live, rng, f"u{n}", 10)])
        assert (line.arm, line.policy_version, line.why) == ("marl", "test-1", None)
        read = wire.logged_decoder.decode(wire.encoder.encode(line))
        built = [(p.id, p.kind, p.propensity) for p in wire.again(read)]
        assert built == [(p.id, p.kind, pytest.approx(p.propensity)) for p in line.places]


def test_without_a_policy_the_mode_says_so(tmp_path):
    live = server(6)
    live.mode = "policy"
    (line,) = shown(live, [request("u1", ["c1", "c2"])])
    assert (line.arm, line.why) == ("rules", "no_policy")
    assert learned.load("") is None
    with pytest.raises(BadRequest, match="no such file"):
        learned.load(str(tmp_path / "none.npz"))
    (tmp_path / "bad.npz").write_bytes(b"PK")
    with pytest.raises(BadRequest, match="not a file of arrays"):
        learned.load(str(tmp_path / "bad.npz"))
    astray = first_policy(0)
    astray.user[-1].bias[0] = np.nan
    save_policy(tmp_path / "astray.npz", astray, {})
    with pytest.raises(BadRequest, match="not finite"):
        learned.load(str(tmp_path / "astray.npz"))
    save_policy(tmp_path / "mine.npz", jax.tree.map(np.asarray, first_policy(1)), {})
    assert learned.load(str(tmp_path / "mine.npz")).version.startswith("mine-")
    assert learned.load("marl").version.startswith("marl-")


def test_where_the_policy_fails_the_rules_decide():
    live = play(server(11), user_worth=1.0)
    policy = live.learned.policy
    live.playing = live.playing._replace(learned=learned.Learned(policy._replace(user=policy.content), "broken"))
    wanted = request("u1", [f"c{n}" for n in range(40)])
    (line,) = shown(live, [wanted])
    assert (line.arm, line.policy_version, line.why) == ("rules", "rules-1", "policy_failed")
    assert len(line.places) == 10
    assert live.failures["policy"] == 1


def test_dials_of_grants_reach_other_servers():
    live = play(server(7), content_audience=1.0, system_promise=-1.0)
    rows = live.grants.rows
    heat = np.random.default_rng(0).random((*rows.shape, 3)).astype(np.float32)
    names = live.contents.rows.names
    said = told.Told(
        1, [[names[r] for r in held if r != NOBODY] for held in rows.tolist()],
        np.zeros((3, records.DIMS), np.float32).tobytes(), 1.0, 0.05, [], {}, heat[rows != NOBODY].tobytes(), scale=0.2,
    )  # fmt: skip
    told.take(live, told.decoder.decode(told.encoder.encode(said)), NOW)
    for held, dials, before_rows, before in zip(live.grants.rows, live.grants.dials, rows, heat, strict=True):
        here = before_rows != NOBODY
        np.testing.assert_array_equal(held[: here.sum()], before_rows[here])
        np.testing.assert_array_equal(dials[: here.sum()], before[here])
    live.learned = None
    older = {name: getattr(said, name) for name in said.__struct_fields__ if name not in ("dials", "scale")}
    told.take(live, told.decoder.decode(msgspec.msgpack.encode(older)), NOW)
    assert live.grants.dials is None, "a record from before the learned policy can be read, and means the rules"


# ---- tags engaged within a week


def bits(live: Live, row: int, now_ms: int) -> int:
    return int(fold.engaged(fold.arrive(live.settings, live.users.record[[row]], now_ms))[0])


def test_a_valid_view_engages_its_tags_for_a_week():
    live = server(8)
    row = known_user(live, "v")
    live.users.record["visited_ms"][row] = NOW
    at = live.add_content(content(901, tags=("jazz", "chess")), {})
    fold.viewed(live.users, live.contents, row, at, NOW)
    wanted = int(bits_of(("jazz", "chess")))
    assert wanted.bit_count() == 2
    assert bits(live, row, NOW) == wanted
    for days in range(1, 7):
        assert bits(live, row, NOW + days * DAY_MS) == wanted
    for days in (7, 8, 14, 15, 16, 22, 30):  # also where four bits would tell it from a later day no more
        assert bits(live, row, NOW + days * DAY_MS) == 0


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=12), st.randoms())
def test_views_of_a_week_come_in_any_order(views, random):
    def after(order):
        live = Live(settings(), "s0")
        row = known_user(live, "v")
        live.users.record["visited_ms"][row] = NOW + 6 * DAY_MS
        rows = [live.add_content(content(n, tags=(f"t{n}", "all")), {}) for n in range(4)]
        for day, which in order:
            fold.viewed(live.users, live.contents, row, rows[which], NOW + day * DAY_MS)
        return live.users.record["engaged"][row].tobytes()

    mixed = list(views)
    random.shuffle(mixed)
    assert after(views) == after(mixed)


def test_records_of_the_first_version_are_read():
    row = records.new_user(5, 0.1)
    row["ring"][:3] = 7, 8, 9
    old = (1).to_bytes(2, "little") + row.tobytes()[2 : USER.itemsize - TAGS // 2]
    assert len(old) == 480
    read = records.read_user(old)
    assert read.tobytes() == row.tobytes()
    assert not read["engaged"].any()
    assert read["ring"].shape == (RING,)
    with pytest.raises(ValueError, match="newer"):
        records.read_user((3).to_bytes(2, "little") + row.tobytes()[2:])


def test_a_start_is_tested_from_where_its_third_day_was_seen_to_end():
    live = Live(settings(), "s0")
    row = live.add_content(content(902, NOW - 2 * DAY_MS), {})
    counts = live.contents.counts
    first, fourth = 500 * live.settings.scale, 100 * live.settings.scale

    def starting(days: float) -> bool:
        return bool(learned.record_of(live.contents, live.settings.scale, 0.05, NOW + int(days * DAY_MS))[row, 3] > 0)

    assert starting(0.0)
    counts[row, COLUMN["impressions"]] = first
    assert not starting(0.5)
    assert starting(1.1)  # tested from here
    counts[row, COLUMN["impressions"]] += fourth - 1
    assert not starting(1.5)  # far ahead of an even pace
    assert starting(1.99)
    counts[row, COLUMN["impressions"]] += 1
    assert not starting(1.995)
    assert not starting(2.1)
