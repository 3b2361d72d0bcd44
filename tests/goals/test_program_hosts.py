"""Reward programs where they act: the same in the world and in the service, a part of the score, in a world file."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upwell.agents.dials import Dials
from upwell.arms import programs, rules
from upwell.demo import bootstrap
from upwell.errors import BadRequest
from upwell.goals.program import key_of_tag, parse
from upwell.regulator import policy
from upwell.regulator.bonus import bonus
from upwell.regulator.policy import Standing
from upwell.service import figures, fold, ticker
from upwell.service.records import COLUMN
from upwell.service.tables import Contents, Users
from upwell.world import world
from upwell.world.arm import view_of
from upwell.world.config import WorldConfig, flatten, load_world, to_toml
from upwell.world.state import CLICKS, HEATED, IMPRESSIONS, VALID

SMALL = WorldConfig().override({
    "sizes.users": 64, "sizes.contents": 96, "sizes.creators": 12, "sizes.tags": 8, "sizes.segments": 2,
})  # fmt: skip
FOOD = 'if tag("tag3") and followers < 1000 and d1_retention >= 60% then 0.2 else 0'
EVERYTHING = (
    'clip(0.1 * tag("tag1") - 0.05 * tag("no such") + (click_rate - ctr) + 0.1 * valid_rate * (heated < 30)'
    " + price / 1000 yuan + followers / 1e5 count - age_days / 50 days + budget / 1000 coins + 0.1 * match"
    " + 0.2 * (d1_retention - d7_retention) + 0.1 * satisfaction_mean - interest_tags / 1000 count + 0.1 * heated_share"
    " + new_content_ctr - 0.1 * new_content_heated_share + 0.01 * (dau > 10) + clicks / impressions / 10, -1, 1) / 4"
)


def known(contents: int) -> Standing:
    draw = np.random.default_rng(1)
    shown = draw.integers(0, 400, contents).astype(np.float32)
    clicks = np.floor(shown * draw.random(contents, np.float32) / 5)
    return Standing(
        shown, clicks, np.floor(0.6 * clicks), np.floor(shown / 4), draw.integers(0, 9, contents),
        draw.integers(1, 5_000, contents).astype(np.float32), draw.integers(0, 200, contents).astype(np.float32),
    )  # fmt: skip


def requests(weights=(0.4, 0.3, 0.3), add=None):
    draw = np.random.default_rng(2)
    return policy.requests(
        np, known(200), draw.random(200, np.float32), draw.random(200, np.float32), np.float32(0.1), np.float32(0.05),
        1_000.0, weights, Dials(), add,
    )  # fmt: skip


def test_without_a_program_nothing_changes_and_with_one_a_part_is_added():
    plain, none = requests(), requests(add=np.zeros(200, np.float32))
    np.testing.assert_array_equal(plain.score, none.score)
    assert "program" not in plain.parts
    up = requests(add=np.full(200, 0.25, np.float32))
    np.testing.assert_allclose(up.score - plain.score, 0.25, atol=1e-6)
    np.testing.assert_allclose(sum(up.parts.values()), up.score, atol=1e-6)
    assert (up.impressions > 0).sum() > (plain.impressions > 0).sum() > 0
    down = requests(add=np.full(200, -0.3, np.float32))
    assert (down.impressions > 0).sum() < (plain.impressions > 0).sum()


def test_a_bonus_by_hand():
    standing = Standing(*(np.asarray(column) for column in (
        [100.0, 0.0, 50.0], [10.0, 0.0, 0.0], [5.0, 0.0, 0.0], [60.0, 0.0, 5.0], [2, 2, 5], [9.0, 9.0, 9.0], [0.0] * 3,
    )))  # fmt: skip

    def of(text: str, **given: object) -> list[float]:
        return bonus(np, parse(text), standing, np.zeros(3, np.float32), 1.0, 50.0, given).tolist()

    assert of("click_rate") == pytest.approx([0.1, 0.0, 0.0])
    assert of("valid_rate / 2") == pytest.approx([0.25, 0.0, 0.0])
    assert of("new_content_ctr") == pytest.approx([0.1] * 3)  # 10 of the first two's 100
    assert of("new_content_heated_share / 2") == pytest.approx([0.25] * 3)  # one of two in their third day
    assert of("price / 10 yuan", price=np.asarray([1.0, 0.0, 2.0])) == pytest.approx([0.1, 0.0, 0.2])
    assert of("0.1 + d1_retention") == [0.0] * 3, "silent while retention is not known"
    assert of("0.1 + 0 * d1_retention", d1_retention=0.5) == pytest.approx([0.1] * 3)


@pytest.fixture(scope="module")
def platform():
    """A small platform some days on, without living them: counts and visits are made up."""
    state, draw = jax.jit(lambda: world.reset(SMALL, 5))(), np.random.default_rng(3)
    m, cells = SMALL.sizes.contents, state.users.satisfaction.shape
    have = known(m)
    stats = np.asarray(state.contents.stats).copy()
    stats[:, IMPRESSIONS], stats[:, CLICKS], stats[:, VALID], stats[:, HEATED] = have[:4]
    bits = (draw.integers(0, 2**12, cells) | draw.integers(0, 2**12, cells)).astype(np.uint32)  # 3 days of 4
    last = np.asarray([[max(int(b) & -int(b), 1).bit_length() - 1 for b in row] for row in bits])
    day = 20
    users = state.users._replace(
        active_bits=jnp.asarray(bits),
        visited_h=jnp.asarray(24.0 * (day - 1 - last) + 12.0, jnp.float32),
        requests=jnp.asarray(bits > 0, jnp.int16),
        mind=jnp.asarray(draw.random((*cells, 4)), jnp.float32),
        last_valid_day=jnp.asarray(draw.integers(day - 7, day, state.users.last_valid_day.shape), jnp.int16),
    )
    contents = state.contents._replace(stats=jnp.asarray(stats), born_day=jnp.asarray(day - have.age_days, jnp.int32))
    return state._replace(day=jnp.int32(day), users=users, contents=contents)


def to_service(state):
    """The same users and contents as the service has them."""
    host = jax.tree.map(np.asarray, state)
    contents, users, heated = Contents(), Users(0.0, 0), []
    for place in range(SMALL.sizes.contents):
        row = contents.put(bootstrap.content_of(SMALL, host.contents, place))
        for name, column in (("impressions", IMPRESSIONS), ("clicks", CLICKS), ("valid", VALID), ("heated", HEATED)):
            contents.counts[row, COLUMN[name]] = host.contents.stats[place, column]
        heated.append(row)
    for segment, place in np.ndindex(host.users.satisfaction.shape):
        name = bootstrap.Names.user(segment * 1_000 + place, 0)
        users.put(name, bootstrap.user_record(host, segment, place, list(range(SMALL.sizes.tags))))
    return contents, users, np.asarray(heated)


@pytest.mark.slow
@pytest.mark.parametrize("text", [FOOD, EVERYTHING])
def test_world_and_service_give_the_same_bonus(text, platform):
    config, state = SMALL.override({"goal.program": text}), platform
    view = view_of(config, state, jnp.uint32(1))
    ids = rules.everything(view)
    standing, best = rules.standing(view, ids), rules.best_match(view, ids)
    # Followers are counted whole in the service.
    standing = standing._replace(followers=jnp.floor(standing.followers))
    ours = np.asarray(jax.jit(programs.bonus_of)(view, standing, best))
    contents, users, rows = to_service(state)
    now_ms = bootstrap.time_ms(24.0 * 20)
    of_users = figures.of_users(users, now_ms)
    here, there = programs.figures(view), of_users
    for name in there:
        assert there[name] == pytest.approx(float(here[name]), rel=1e-5), name
    assert there.keys() >= {"d1_retention", "d7_retention", "dau", "satisfaction_mean", "interest_tags"}
    counts = contents.counts[rows].astype(np.float32)
    live = Standing(
        *(counts[:, COLUMN[name]] for name in ("impressions", "clicks", "valid", "heated")),
        (now_ms - contents.published_ms[rows]) / ticker.DAY_MS, contents.followers[rows],
        np.asarray(standing.coins),
    )  # fmt: skip
    program = parse(text)
    given = figures.given(program, contents, rows, float(view.platform_ctr), float(here["heated_share"]), of_users)
    theirs = bonus(np, program, live, np.asarray(best), float(view.scale), config.heating.chance, given)
    assert theirs.dtype == ours.dtype == np.float32
    np.testing.assert_allclose(theirs, ours, atol=2e-6)
    assert len(np.unique(np.round(theirs, 4))) > (1 if text is FOOD else 20)


@pytest.mark.slow
def test_the_rules_in_the_world_go_by_the_goals_program(platform):
    state = platform

    def asked(text: str):
        view = view_of(SMALL.override({"goal.program": text} if text else {}), state, jnp.uint32(1))
        found = jax.jit(lambda v: rules.rules.requests(v)._replace(parts=None))(view)
        return np.asarray(found.score)

    tagged = np.asarray((state.contents.tags == 3).any(-1))
    assert 0 < tagged.sum() < len(tagged)
    np.testing.assert_allclose(
        asked('if tag("tag3") then 0.2 else -0.1') - asked(""), np.where(tagged, 0.2, -0.1), atol=1e-6
    )


def test_a_world_file_carries_a_program(tmp_path):
    config = SMALL.override({"goal.program": '  0.20 *tag("美食")+ 0.1*( age_days<3 days ) '})
    assert config.goal.program == '0.2 * tag("美食") + 0.1 * (age_days < 3 days)'
    (tmp_path / "w.toml").write_text(to_toml(config), encoding="utf-8")
    again = load_world(tmp_path / "w.toml")
    assert again.goal == config.goal
    assert "goal.program" not in flatten(config)
    assert "program" not in to_toml(SMALL), "worlds without one are the files that they were"
    assert jax.tree.structure(again) != jax.tree.structure(SMALL), "a program is compiled in"
    assert len(jax.tree.leaves(again)) == len(jax.tree.leaves(SMALL))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('program = "ctr +"', "program, column 6"), ("program = 1.0", "is a text, not 1.0"),
        ('program = "gmv_per_day / 1 yuan"', "at a tick"), ('long_term = "much"', "must be a number"),
    ],
)  # fmt: skip
def test_a_wrong_program_in_a_world_file_is_told(tmp_path, line, why):
    (tmp_path / "w.toml").write_text(f"[goal]\n{line}\n", encoding="utf-8")
    with pytest.raises(BadRequest, match=why) as error:
        load_world(tmp_path / "w.toml")
    assert "w.toml" in str(error.value)


def test_which_days_a_user_came_on():
    came, last = np.asarray([0], np.uint8), 100
    for day in (100, 101, 101, 103, 109, 119):
        came, last = fold.came_after(came, np.asarray([day - last])), day
    assert came.tolist() == [0], "of the eight days before day 119 none"
    came = fold.came_after(np.asarray([0b1], np.uint8), np.asarray([2]))  # on days 99 and 100, and now on day 102
    assert came.tolist() == [0b110]
    visited_ms = np.asarray([102 * figures.DAY_MS + 5])
    assert [d for d in range(90, 110) if figures.came_on(visited_ms, came, d)[0]] == [99, 100, 102]


def test_keys_of_tags_are_no_names_of_measures():
    assert key_of_tag("ctr") != "ctr"
