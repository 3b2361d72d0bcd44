"""Every number of a world, with its unit and meaning; reading, overriding and printing TOML.

Sections are frozen dataclasses. ``Sizes`` is static (it fixes array shapes); all other sections are JAX pytrees
of floats, so that calibration and domain randomisation change them without compiling again. A text, the goal's reward
program, is static too.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

import jax

from upwell.errors import BadRequest
from upwell.goals.program import parse, printed


def knob(default: float, unit: str, help: str) -> Any:
    """A documented number of a world."""
    return field(default=default, metadata={"unit": unit, "help": help})


@dataclass(frozen=True)
class Sizes:
    users: int = knob(20_000, "users", "accounts on the platform; about half are active on a day")
    contents: int = knob(10_000, "contents", "contents live at any time; a dead one's place is refilled")
    creators: int = knob(1_000, "creators", "creators at any time; one who leaves is replaced by a newcomer")
    tags: int = knob(64, "tags", "topics a content may carry and a user may like")
    dims: int = knob(32, "dimensions", "length of the embeddings that the ranker scores with")
    candidates: int = knob(200, "contents", "candidates a request")
    fresh: int = knob(50, "contents", "of these, drawn at random, young contents more likely")
    slate: int = knob(10, "contents", "contents shown a request")
    segments: int = knob(0, "segments", "k-means cells of users that share candidates; 0 chooses by users")
    ticks_per_day: int = knob(144, "ticks", "slow ticks a day at the usual traffic; 144 are ten minutes each")
    visits_max: int = knob(40, "requests", "most requests of one user a day")
    grants: int = knob(16, "grants", "grants matched to a segment at a time")
    bots: int = knob(0, "accounts", "accounts that cheats have beside those of users")
    visits: int = knob(0, "visits", "most direct visits an hour; at 0 nobody comes but by the ranker, nor is judged")

    @property
    def cells(self) -> int:
        """Number of user segments."""
        if self.segments:
            return self.segments
        return max(1, min(64, 1 << max(0, (self.users // 1_000).bit_length() - 1)))


@dataclass(frozen=True)
class Interest:
    spread: float = knob(0.9, "log units", "how unequal a user's true interests are over tags")
    persona: float = knob(0.6, "share", "share of that spread that users of one segment have in common")
    discovered: float = knob(0.9, "share", "interests already discovered at the healthy start")
    discovered_new: float = knob(0.35, "share", "interests already discovered by a user who joins later")
    undiscovered_pull: float = knob(0.03, "share", "click rate on an undiscovered interest over a discovered one's")
    curiosity_pull: float = knob(0.1, "share", "what full curiosity adds to that share")
    discovery: float = knob(0.5, "share", "how much of an interest one valid view discovers")
    patience: float = knob(30.0, "slates", "an interest not met in so many slates begins to fade")
    half_life_days: float = knob(5.0, "days", "days of use in which it then fades by half")


@dataclass(frozen=True)
class Content:
    quality_spread: float = knob(1.1, "log units", "standard deviation of log quality")
    skill_share: float = knob(0.4, "share", "share of quality's variance that is the creator's")
    life_days: float = knob(25.0, "days", "mean life of a content before it is taken down")
    freshness_days: float = knob(8.0, "days", "age at which click rate has fallen to 1/e")
    tag_evenness: float = knob(20.0, "tags", "contents of the r-th tag, r = 0, 1, …, are made as 1 / (r + this)")
    one_tag: float = knob(0.75, "share", "contents with one tag; as KuaiRand's videos")
    two_tags: float = knob(0.24, "share", "contents with two tags; the rest have three; as KuaiRand's videos")
    clickbait: float = knob(0.05, "share", "contents whose title promises more than they hold")
    clickbait_boost: float = knob(1.2, "log units", "what clickbait adds to the log click rate")
    own_style: float = knob(0.5, "ratio", "size of a content's own direction beside its tags' in its embedding")
    duration_s: float = knob(60.0, "s", "median duration")
    duration_spread: float = knob(0.8, "log units", "standard deviation of log duration")
    bought: float = knob(0.02, "share", "contents that buy clicks from bots in their first two days")
    bought_clicks_per_day: float = knob(20.0, "clicks/day", "bot clicks a day on such a content, times scale")


@dataclass(frozen=True)
class Creator:
    leave: float = knob(0.03, "probability", "chance to leave after a content under 500*scale impressions in 3 days")
    followers_spread: float = knob(1.5, "log units", "standard deviation of log followers")
    ring: float = knob(0.005, "share", "creators, and users, of the one colluding ring")
    ring_click: float = knob(0.8, "probability", "click of a ring account on its ring's content")


@dataclass(frozen=True)
class Ranker:
    feedback: float = knob(1.0, "0 or 1", "1: learns from what it showed; 0: stays as ignorant as at the start")
    learns_from_day: float = knob(7.0, "day", "the ranker's first day of learning; until then the platform is healthy")
    personal: float = knob(6.0, "logits", "weight of the similarity between user and content")
    popularity: float = knob(0.35, "logits", "weight of log(1 + recent impressions / (popular_at * scale))")
    popular_at: float = knob(
        1000.0, "impressions", "recent impressions at which popularity begins to count, times scale"
    )
    click_rate: float = knob(1.0, "logits", "weight of the log of the estimated click rate")
    prior_weight: float = knob(30.0, "impressions", "strength of the prior click rate, times scale")
    prior_ratio: float = knob(0.6, "ratio", "prior click rate of an unseen content over the platform's mean")
    lag_days: float = knob(3.0, "days", "age from which the ranker knows a content's record; before, only its prior")
    memory_days: float = knob(3.0, "days", "half-life of the ranker's counts of impressions and clicks")
    learning: float = knob(0.12, "share", "how far one click moves a user's profile")
    fresh_days: float = knob(3.0, "days", "age at which the preference for the young in that draw is down to 1/e")
    noise: float = knob(0.3, "logits", "standard deviation of the serving noise")
    trial: float = knob(3.0, "logits", "how far below a request's best the ranker puts a candidate that it tries out")
    trials: float = knob(0.01, "share", "of a segment's candidates that are tried out at a tick")
    no_repeat_h: float = knob(12.0, "h", "window of whole hours in which a content is shown to a user once at most")


@dataclass(frozen=True)
class Response:
    base: float = knob(-3.2, "log rate", "log click rate at mean interest, quality, age 0 and the first position")
    attention: float = knob(3.0, "clicks/slate", "what the clicks of a slate saturate at: its contents compete")
    position: float = knob(0.06, "log units", "fall of the log click rate a position")
    satiation: float = knob(1.0, "log units", "fall of the log click rate at full similarity to what was lately shown")
    satiation_step: float = knob(0.02, "share", "how far one content shown moves what a user has had enough of")
    satiation_half_life_h: float = knob(24.0, "h", "time in which that is forgotten by half")
    passive_s: float = knob(6.0, "s", "mean time on an impression that is not clicked (autoplay)")
    dwell: float = knob(1.0, "ratio", "factor on the completion of a clicked content")
    share: float = knob(0.03, "probability", "share of a valid view, at mean quality")
    purchase: float = knob(0.02, "probability", "purchase after a valid view, at the median price")
    elasticity: float = knob(1.0, "log/log", "fall of that with price; at 1 no price earns more than another")
    price: float = knob(60.0, "yuan", "median price")
    enjoy: float = knob(1.2, "per valid view", "what valid views add to a slate's enjoyment")
    boredom: float = knob(0.5, "share", "of a view's enjoyment, lost at full similarity to what was lately shown")
    regret: float = knob(0.8, "per click", "what a click that ends in no valid view takes away")
    memory: float = knob(0.95, "share", "weight of the past in true satisfaction, per slate")


@dataclass(frozen=True)
class Activity:
    active: float = knob(0.1, "logit", "chance of being active on a day at satisfaction 0.5")
    active_spread: float = knob(0.8, "logits", "standard deviation of that between users")
    satisfaction: float = knob(2.5, "logits", "effect of satisfaction on the chance to return")
    visits: float = knob(8.0, "requests", "mean requests of an active user a day at satisfaction 0.5")
    visits_spread: float = knob(0.6, "log units", "standard deviation of log requests between users")
    visits_satisfaction: float = knob(0.8, "log units", "effect of satisfaction on the requests a day")
    leave: float = knob(0.003, "probability/day", "chance to leave for good at satisfaction 0.5")
    leave_satisfaction: float = knob(4.0, "log units", "how fast that falls with satisfaction")
    daily_wave: float = knob(0.739, "log units", "size of the day's wave in the traffic an hour; fitted to KuaiRand")
    daily_peak_h: float = knob(16.83, "h", "its peak; fitted to KuaiRand")
    half_wave: float = knob(0.489, "log units", "size of the half day's wave; fitted to KuaiRand")
    half_peak_h: float = knob(9.95, "h", "its first peak; fitted to KuaiRand")
    weekend: float = knob(0.11, "log units", "more requests on days 6 and 7 of a week; fitted to KuaiRand")


@dataclass(frozen=True)
class Heating:
    pool: float = knob(0.10, "share", "heated impressions the pool can buy a day, over the platform's impressions")
    cap: float = knob(0.20, "share", "most heated impressions of all impressions, in any hour")
    protection_days: float = knob(3.0, "days", "a user this new is not explored on")
    chance_share: float = knob(0.80, "share", "new contents that get at least one heating chance")
    chance: float = knob(50.0, "impressions", "heated impressions that count as one chance, times scale")
    ctr_loss: float = knob(0.03, "share", "click-rate loss against the holdout at which exploration throttles")
    holdout: float = knob(0.05, "share", "users who are never regulated")
    budget: float = knob(100.0, "coins", "a content's own budget at birth")
    first_ask: float = knob(1000.0, "impressions", "what that budget buys at the reference price, times scale")
    trust: float = knob(0.0, "0 or 1", "1: who is judged to cheat is heated less, or not; needs sizes.visits")
    yuan_per_dau: float = knob(0.0016, "yuan/DAU", "what the whole pool costs a day: 8,000 yuan per 5 million")


@dataclass(frozen=True)
class Direct:
    """Visits that the ranker did not send; what each kind does is in ``world.visits``."""

    per_day: float = knob(20.0, "visits/day", "of an ordinary content when new, times scale")
    fade_days: float = knob(5.0, "days", "age at which they have fallen to 1/e")
    viral: float = knob(0.01, "share", "contents that people pass on; good ones alone")
    niche: float = knob(0.04, "share", "creators with a small devoted public")
    fans: float = knob(0.04, "share", "creators whose fans come at once")
    sleepy: float = knob(0.02, "share", "contents left playing in the background at night")
    bought: float = knob(0.02, "share", "contents that buy clicks in their first two days")
    farm: float = knob(0.02, "share", "creators who buy at a farm of accounts that live like people")
    ring: float = knob(0.02, "share", "creators of a colluding ring")
    slow_drip: float = knob(0.02, "share", "contents that buy a few clicks a day, for long")
    adaptive: float = knob(0.02, "share", "contents whose cheating was optimised")
    budget: float = knob(1.0, "ratio", "factor on the visits that cheats pay for")
    skill: float = knob(0.3, "share", "how far bots live as people do: 0 crude, 1 as well as they can")
    per_day_adaptive: float = knob(40.0, "visits/day", "what an adaptive cheat buys, times scale")
    days_adaptive: float = knob(5.0, "days", "for how long")
    watch_adaptive: float = knob(0.4, "share", "of its clicks that are watched")
    engaged_adaptive: float = knob(0.05, "share", "of these that are shared")
    cover_adaptive: float = knob(1.0, "ratio", "visits of its accounts elsewhere, for one to it")
    pool_adaptive: float = knob(60.0, "accounts", "that it has")
    spread_adaptive: float = knob(0.0, "log units", "how far single cheats stray from these five")


@dataclass(frozen=True)
class Goal:
    user_satisfaction: float = knob(0.4, "weight", "weight of users' satisfaction")
    platform_revenue: float = knob(0.3, "weight", "weight of revenue after heating's cost")
    long_term: float = knob(0.3, "weight", "weight of retention, diversity and cold start")
    program: str = field(
        default="", metadata={"unit": "reward program", "help": "what it adds to the score of a request for heating"}
    )


@dataclass(frozen=True)
class WorldConfig:
    """A whole world. Immutable; ``override`` makes changed copies."""

    name: str = "default"
    healthy_tags: float = 23.0
    sizes: Sizes = field(default_factory=Sizes)
    interest: Interest = field(default_factory=Interest)
    content: Content = field(default_factory=Content)
    creator: Creator = field(default_factory=Creator)
    ranker: Ranker = field(default_factory=Ranker)
    response: Response = field(default_factory=Response)
    activity: Activity = field(default_factory=Activity)
    heating: Heating = field(default_factory=Heating)
    direct: Direct = field(default_factory=Direct)
    goal: Goal = field(default_factory=Goal)

    def override(self, changes: Mapping[str, float | str]) -> WorldConfig:
        """A copy with ``{"section.key": value}`` applied. Raises BadRequest for an unknown key or a wrong value."""
        config = self
        for key, value in changes.items():
            section_name, _, name = key.partition(".")
            section = getattr(config, section_name, None) if section_name in SECTIONS else None
            if section is None or name not in {f.name for f in fields(section)}:
                raise BadRequest(f"unknown world key '{key}': see `upwell simulate --print-world` for every key")
            section = replace(section, **{name: checked(key, value, section, name)})
            config = replace(config, **{section_name: section})
        return config


SECTIONS: dict[str, type] = {
    "sizes": Sizes, "interest": Interest, "content": Content, "creator": Creator, "ranker": Ranker,
    "response": Response, "activity": Activity, "heating": Heating, "direct": Direct,
    "goal": Goal,
}  # fmt: skip
TEXTS = frozenset(f"{s}.{f.name}" for s in SECTIONS for f in fields(SECTIONS[s]) if isinstance(f.default, str))
"""Keys that hold a text instead of a number."""
for _name, _section in SECTIONS.items():
    if _name != "sizes":
        _names = [f.name for f in fields(_section)]
        jax.tree_util.register_dataclass(
            _section,
            data_fields=[name for name in _names if f"{_name}.{name}" not in TEXTS],
            meta_fields=[name for name in _names if f"{_name}.{name}" in TEXTS],
        )
jax.tree_util.register_dataclass(
    WorldConfig,
    data_fields=[name for name in SECTIONS if name != "sizes"],
    meta_fields=["name", "healthy_tags", "sizes"],
)


SCENARIOS = Path(__file__).parent / "scenarios"
"""Worlds that ship with the package."""


def reference_world() -> WorldConfig:
    """The fitted reference platform."""
    return load_world(SCENARIOS / "reference.toml")


def checked(key: str, value: float | str, section: Any, name: str) -> float | str:
    """A value as the section keeps it. Raises BadRequest."""
    now = getattr(section, name)
    if isinstance(now, str):
        if not isinstance(value, str):
            raise BadRequest(f"world key '{key}' is a text, not {value!r}")
        return value and printed(parse(value))
    if isinstance(value, str):
        raise BadRequest(f"world key '{key}' must be a number, got {value!r}")
    if isinstance(now, int) and value != int(value):
        raise BadRequest(f"world key '{key}' counts {unit_of(section, name)}: {value} is not a whole number")
    return int(value) if isinstance(now, int) else float(value)


def unit_of(section: Any, name: str) -> str:
    """The unit of a key."""
    return next(f.metadata["unit"] for f in fields(section) if f.name == name)


def flatten(config: WorldConfig) -> dict[str, float]:
    """``{"section.key": value}`` of every number."""
    each = {f"{s}.{f.name}": getattr(getattr(config, s), f.name) for s in SECTIONS for f in fields(SECTIONS[s])}
    return {key: value for key, value in each.items() if key not in TEXTS}


def load_world(path: Path) -> WorldConfig:
    """Read a TOML world file; keys it lacks keep their defaults. Raises BadRequest with file and key."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadRequest(f"{path}: no such world file; `upwell simulate --print-world` prints one") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path}: not a TOML file: {error}") from None
    changes: dict[str, float | str] = {}
    for section, table in document.items():
        if section in ("name", "healthy_tags"):
            continue
        if not isinstance(table, dict):
            raise BadRequest(f"{path}: key '{section}' must be a section such as [ranker]")
        for key, value in cast(dict[str, object], table).items():
            if isinstance(value, bool) or not isinstance(value, (int, float, str)):
                raise BadRequest(f"{path}: key '{section}.{key}' must be a number, got {value!r}")
            changes[f"{section}.{key}"] = value
    named = replace(
        WorldConfig(), name=str(document.get("name", path.stem)), healthy_tags=float(document.get("healthy_tags", 23.0))
    )
    try:
        return named.override(changes)
    except BadRequest as error:
        raise BadRequest(f"{path}: {error}") from None


def to_toml(config: WorldConfig, header: str = "") -> str:
    """The world as TOML text, each key with its unit and meaning as a comment."""
    lines = [f"# {line}".rstrip() for line in header.splitlines()]
    lines += [
        f'name = "{config.name}"',
        f"healthy_tags = {float(config.healthy_tags)}  # tags/7 days: what interest diversity is measured against",
    ]
    for name in SECTIONS:
        section = getattr(config, name)
        lines += ["", f"[{name}]"]
        for key in fields(section):
            value = getattr(section, key.name)
            if value != "":  # runs are known by this text: those before there were programs stay what they are
                lines.append(f"{key.name} = {spelled(value)}  # {key.metadata['unit']}: {key.metadata['help']}")
    return "\n".join(lines) + "\n"


def spelled(value: float | str) -> str:
    """A value as TOML has it."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int):
        return str(value)
    text = f"{float(value):.6g}"
    return text if set(text) & set(".en") else f"{text}.0"
