"""Contents and their creators: birth, life and death, cheats among them, and creators who give up."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

from upwell.agents.xp import hash_uniform
from upwell.world.config import Sizes, WorldConfig
from upwell.world.state import (
    CLICKS,
    CLICKS_TODAY,
    IMPRESSIONS,
    ORGANIC_TODAY,
    RECENT_CLICKS,
    RECENT_IMPRESSIONS,
    STATS,
    TODAY,
    Array,
    Contents,
)

TAGS, QUALITY, STYLE, PRICE, DURATION, LIFE = 201, 202, 203, 204, 205, 206
CLICKBAIT, BOUGHT, CREATOR, HOW_MANY_TAGS = 207, 208, 209, 210
NEIGHBOURS = 4
"""A content's next tag is one of so many that follow its first in the ring of tags."""
SKILL, FOLLOWERS, GIVES_UP, RING_CREATOR = 221, 222, 223, 224


def tag_name(tag: int) -> str:
    """What a topic is called outside the world, and in reward programs."""
    return f"tag{tag}"


def draw_tag_vectors(seed: int, sizes: Sizes) -> np.ndarray:
    """Unit embedding of each tag, f32 ``[T, D]``: as good as orthogonal in so many dimensions."""
    vectors = np.random.default_rng([seed, 2]).normal(size=(sizes.tags, sizes.dims))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def creators_of(config: WorldConfig, seed: Array, generation: Array) -> tuple[Array, Array]:
    """Followers and skill (standard normal) of the creators who hold each place, f32 ``[K]`` each."""
    place = jnp.arange(config.sizes.creators, dtype=jnp.uint32)
    followers = jnp.exp(
        5.0 + config.creator.followers_spread * ndtri(hash_uniform(jnp, seed, FOLLOWERS, place, generation))
    )
    # A newcomer who takes the place of one who left starts small.
    return jnp.where(generation > 0, followers * 0.1, followers), ndtri(
        hash_uniform(jnp, seed, SKILL, place, generation)
    )


def born(config: WorldConfig, seed: Array, tag_vectors: Array, skill: Array, generation: Array, day: Array) -> Contents:
    """The contents that take each place ``[M]`` in their generation. Attributes hang on seed, place and generation
    alone, so that every arm gets the same births on the same days."""
    sizes, content = config.sizes, config.content
    place = jnp.arange(sizes.contents, dtype=jnp.uint32)

    def draw(stream: int) -> Array:
        return hash_uniform(jnp, seed, stream, place, generation)

    u_tags = hash_uniform(jnp, seed, TAGS, place[:, None], generation[:, None], jnp.arange(3, dtype=jnp.uint32))
    shares = 1.0 / (jnp.arange(sizes.tags) + content.tag_evenness)
    tags = jnp.searchsorted(jnp.cumsum(shares) / shares.sum(), u_tags).astype(jnp.int32)
    tags = jnp.minimum(tags, sizes.tags - 1)
    # Further tags are near the first one: what is tagged baking is also tagged desserts, seldom football.
    near = 1 + jnp.floor(NEIGHBOURS * u_tags[:, 1:]).astype(jnp.int32)
    tags = jnp.concatenate([tags[:, :1], (tags[:, :1] + jnp.cumsum(near, axis=1)) % sizes.tags], axis=1)
    many = draw(HOW_MANY_TAGS)
    count = 1 + (many > content.one_tag) + (many > content.one_tag + content.two_tags)
    tags = jnp.where(jnp.arange(3) < count[:, None], tags, tags[:, :1])
    u_style = hash_uniform(
        jnp, seed, STYLE, place[:, None], generation[:, None], jnp.arange(sizes.dims, dtype=jnp.uint32)
    )
    style = ndtri(u_style) / jnp.sqrt(sizes.dims)
    embedding = tag_vectors[tags].mean(1) + content.own_style * style
    creator = (draw(CREATOR) * sizes.creators).astype(jnp.int32)
    mixed = jnp.sqrt(content.skill_share) * skill[creator] + jnp.sqrt(1 - content.skill_share) * ndtri(draw(QUALITY))
    life = 4.0 - jnp.log(draw(LIFE)) * jnp.maximum(content.life_days - 4.0, 1.0)
    return Contents(
        tags=tags,
        embedding=embedding / jnp.linalg.norm(embedding, axis=-1, keepdims=True),
        log_quality=jnp.clip(content.quality_spread * mixed, -6.0, 6.0),
        clickbait=draw(CLICKBAIT) < content.clickbait,
        bought=draw(BOUGHT) < content.bought,
        price=jnp.exp(0.8 * ndtri(draw(PRICE))) * config.response.price,
        duration_s=jnp.exp(content.duration_spread * ndtri(draw(DURATION))) * content.duration_s,
        creator=creator,
        born_day=jnp.broadcast_to(day, place.shape).astype(jnp.int32),
        death_day=(day + jnp.ceil(life)).astype(jnp.int32),
        generation=generation,
        stats=jnp.zeros((sizes.contents, STATS), jnp.float32),
        first3=jnp.zeros(sizes.contents, jnp.float32),
        creator_generation=jnp.zeros(sizes.creators, jnp.int32),
        creator_followers=jnp.zeros(sizes.creators, jnp.float32),
        creator_skill=skill,
    )


def at_healthy_start(config: WorldConfig, seed: Array, tag_vectors: Array) -> Contents:
    """A catalogue of mixed ages, none of it shown yet."""
    none = jnp.zeros(config.sizes.creators, jnp.int32)
    followers, skill = creators_of(config, seed, none)
    contents = born(config, seed, tag_vectors, skill, jnp.zeros(config.sizes.contents, jnp.int32), jnp.int32(0))
    # A catalogue long in the making: each content stands somewhere within its life.
    place = jnp.arange(config.sizes.contents, dtype=jnp.uint32)
    age = jnp.floor(hash_uniform(jnp, seed, LIFE, place, 999) * contents.death_day).astype(jnp.int32)
    return contents._replace(
        born_day=-age,
        death_day=contents.death_day - age,
        creator_generation=none,
        creator_followers=followers,
        creator_skill=skill,
    )


def start_of_day(
    config: WorldConfig, seed: Array, day: Array, scale: Array, tag_vectors: Array, contents: Contents
) -> Contents:
    """Replace contents whose life is over; fade the ranker's counts; let bots click for those who buy clicks."""
    dead = contents.death_day <= day
    generation = contents.generation + dead.astype(jnp.int32)
    fresh = born(config, seed, tag_vectors, contents.creator_skill, generation, day)
    fresh = fresh._replace(
        creator_generation=contents.creator_generation,
        creator_followers=contents.creator_followers,
        creator_skill=contents.creator_skill,
    )
    fade = 2.0 ** (-1.0 / config.ranker.memory_days)
    stats = contents.stats.at[:, RECENT_IMPRESSIONS : RECENT_CLICKS + 1].multiply(fade)
    contents = contents._replace(stats=stats.at[:, ORGANIC_TODAY : TODAY + 1].set(0.0).at[:, CLICKS_TODAY].set(0.0))
    places = {
        name: jnp.where(dead.reshape(dead.shape + (1,) * (new.ndim - 1)), new, old)
        for name, new, old in zip(Contents._fields, fresh, contents, strict=True)
        if not name.startswith("creator_")
    }
    contents = contents._replace(**places)
    bots = config.content.bought_clicks_per_day * scale * (contents.bought & (day - contents.born_day < 2))
    # Bots look like users to the platform's counts, and never watch.
    faked = jnp.zeros(STATS).at[jnp.array([CLICKS, RECENT_CLICKS])].set(1.0)
    faked = faked.at[jnp.array([IMPRESSIONS, RECENT_IMPRESSIONS])].set(2.0)
    return contents._replace(stats=contents.stats + bots[:, None] * faked)


def creators_who_leave(
    config: WorldConfig, seed: Array, day: Array, scale: Array, contents: Contents
) -> tuple[Contents, Array]:
    """At the end of a content's third day under 500·scale impressions its creator may give up.

    Returns:
        the contents with their creators replaced where they left, and how many left.
    """
    place = jnp.arange(config.sizes.contents, dtype=jnp.uint32)
    failed = (day - contents.born_day == 2) & (contents.first3 < 500.0 * scale)
    gives_up = failed & (hash_uniform(jnp, seed, GIVES_UP, place, contents.generation) < config.creator.leave)
    gone = jnp.zeros(config.sizes.creators, jnp.bool_).at[contents.creator].max(gives_up)
    generation = contents.creator_generation + gone.astype(jnp.int32)
    followers, skill = creators_of(config, seed, generation)
    return contents._replace(
        creator_generation=generation,
        creator_followers=jnp.where(gone, followers, contents.creator_followers),
        creator_skill=jnp.where(gone, skill, contents.creator_skill),
    ), gone.sum()


def in_ring(config: WorldConfig, seed: Array, contents: Contents) -> Array:
    """Contents of the colluding ring's creators, bool ``[M]``."""
    creator = contents.creator
    return hash_uniform(jnp, seed, RING_CREATOR, creator) < config.creator.ring
