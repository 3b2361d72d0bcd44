"""Training of the behaviour encoder, and of its rivals, on the content that a user engages next.

Sampled softmax: with negatives ``j = 1 ... S`` drawn from ``Q`` (how often contents are engaged, smoothed), the sum
over all contents in the softmax's denominator is estimated by importance sampling (Bengio & Senécal, AISTATS 2003,
"Quick training of probabilistic neural nets by importance sampling"): logits of negatives get the log-Q correction,

    loss = - s_y + log( exp(s_y) + sum_{j: j != y} exp(s_j - log(S Q_j)) ),

which makes the estimate of the denominator unbiased. The positive keeps its logit: it is in the sum for certain
(Khrylchenko et al., arXiv 2507.09331).
``s_c`` is encoding · vector of c + bias of c; a content's vector is made of its features, plus what training adds to
each (nothing for one never seen).

A step's users, negatives and dropout hang on (seed, step) alone: a run that goes on from a checkpoint is the same run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

from upwell.agents import arrays, kept
from upwell.agents.encoder import VERSION, Encoder
from upwell.agents.encoder_parts import Array, Events, Shape
from upwell.errors import BadRequest
from upwell.learn.rivals import Mean, Reader, Recurrent
from upwell.learn.sequences import Sequences

MODELS: dict[str, Callable[..., Any]] = {"encoder": Encoder, "gru": Recurrent, "mean": Mean}
SHORT = 3 * 50
"""Events up to which a sequence is short."""
FRUGAL_FROM = 800
"""Events of a sequence from which windows are worked out one after another."""


@dataclass(frozen=True)
class Recipe:
    """How a model is trained."""

    model: str = "encoder"  # of MODELS
    steps: int = 400
    positions: int = 4_000  # events a step: users times the length of their sequences
    negatives: int = 512
    rate: float = 3e-3  # of AdamW at its highest; a cosine ends at a twentieth of it
    decay: float = 1e-2  # weight decay
    dropout: float = 0.2
    fading: float = 1.0  # of the mean alone
    seed: int = 0


class Contents(eqx.Module):
    """Contents as vectors, and what each one's own bias is."""

    project: eqx.nn.Linear
    own: Array  # f32 [N, content]
    bias: Array  # f32 [N]

    def __init__(self, features: int, seen: npt.NDArray[np.float64], content: int, key: Array) -> None:
        self.project = eqx.nn.Linear(features, content, use_bias=False, key=key)
        self.own = jnp.zeros((len(seen), content))
        self.bias = jnp.asarray(np.log(seen + 1.0) - np.log(seen + 1.0).mean(), jnp.float32)

    def vectors(self, features: Array) -> Array:
        """Vectors f32 ``[N, content]`` of contents with these features ``[N, F]``."""
        return jax.vmap(self.project)(features) + self.own


class Learner(eqx.Module):
    """All that is trained."""

    reader: Reader
    contents: Contents


class Run(NamedTuple):
    """A training under way."""

    learner: Learner
    optimiser: Any
    step: int


class Step(NamedTuple):
    """What one step learns from, ``[B, T]`` unless shaped."""

    events: Events
    target: Array  # i32, -1: none
    negatives: Array  # i32 [S]
    log_q: Array  # f32 [S], of the negatives


def made(recipe: Recipe, data: Sequences, shape: Shape) -> Learner:
    """A model as it begins. Raises BadRequest for one that is not known."""
    if recipe.model not in MODELS:
        raise BadRequest(f"model '{recipe.model}': one of {', '.join(MODELS)}")
    reader, contents = jax.random.split(jax.random.key(recipe.seed))
    extra = {"fading": recipe.fading} if recipe.model == "mean" else {}
    return Learner(
        MODELS[recipe.model](shape, reader, **extra),
        Contents(data.features.shape[1], data.seen, shape.content, contents),
    )


def shape_for(data: Sequences, **changes: int) -> Shape:
    """The encoder's sizes for a data set."""
    return Shape(tags=data.tags, **changes)


def proposal(data: Sequences) -> npt.NDArray[np.float64]:
    """Q, which negatives are drawn from, ``[N]``."""
    weight = data.seen + 1.0
    return weight / weight.sum()


def drawn(data: Sequences, recipe: Recipe, shape: Shape, step: int) -> Step:
    """The step's users, all of about one length, and its negatives."""
    rng = np.random.default_rng([recipe.seed, 1, step])
    # Two lengths, so that little is compiled; each comes up by the events it holds.
    whole = shape.fitting(data.row.shape[1])
    sizes = np.where(data.ends["train"] <= shape.fitting(SHORT), min(whole, shape.fitting(SHORT)), whole)
    kinds, which = np.unique(sizes, return_inverse=True)
    weight = np.bincount(which, data.ends["train"].astype(np.float64))
    kind = int(rng.choice(len(kinds), p=weight / weight.sum()))
    size = int(kinds[kind])
    users = rng.choice(np.flatnonzero(which == kind), max(1, recipe.positions // size))
    q = proposal(data)
    negatives = rng.choice(len(q), recipe.negatives, p=q).astype(np.int32)
    return Step(
        events_of(data, users, size),
        jnp.asarray(padded(data.target[users], size, -1)),
        jnp.asarray(negatives),
        jnp.asarray(np.log(q[negatives]), jnp.float32),
    )


def padded(x: npt.NDArray[Any], size: int, fill: float = 0) -> npt.NDArray[Any]:
    """``x`` ``[B, T]`` cut or filled up to ``[B, size]``."""
    return np.pad(x[:, :size], ((0, 0), (0, max(0, size - x.shape[1]))), constant_values=fill)


def events_of(data: Sequences, users: npt.NDArray[Any], size: int) -> Events:
    """Events ``[B, size]`` of some users."""
    columns = (data.row, data.tag, data.gap_s, data.dwell_s, data.engaged)
    return Events(*(jnp.asarray(padded(x[users], size)) for x in columns))


def sampled_loss(scores: Array, target: Array, sampled: Array, negatives: Array, log_q: Array) -> Array:
    """The loss above of each example ``[P]``.

    Args:
        scores: f32 ``[P]``, logits of the targets i32 ``[P]``.
        sampled: f32 ``[P, S]``, logits of the negatives i32 ``[S]``, drawn with log probability ``log_q``.
    """
    corrected = sampled - log_q - jnp.log(sampled.shape[-1])
    corrected = jnp.where(negatives == target[:, None], -jnp.inf, corrected)
    return jax.nn.logsumexp(jnp.concatenate([scores[:, None], corrected], axis=1), axis=1) - scores


def loss_of(learner: Learner, features: Array, now: Step, keep: Array) -> Array:
    """Mean loss of a step over the events that have a target; ``keep`` f32 ``[B, T, …]`` drops some of each."""
    vectors = learner.contents.vectors(features)
    users, size = now.target.shape

    def read(events: Events, keep: Array) -> Array:
        return learner.reader.outputs(vectors, events, keep, frugal=size >= FRUGAL_FROM)

    out = jax.vmap(read)(now.events, keep).reshape(users * size, -1)
    target = now.target.reshape(-1)
    at = jnp.maximum(target, 0)
    scores = (out * vectors[at]).sum(-1) + learner.contents.bias[at]
    sampled = out @ vectors[now.negatives].T + learner.contents.bias[now.negatives]
    loss = sampled_loss(scores, target, sampled, now.negatives, now.log_q)
    return jnp.where(target >= 0, loss, 0.0).sum() / jnp.maximum((target >= 0).sum(), 1)


def optimiser_of() -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter, arXiv 1711.05101) under a clip, on one flat vector; rates are set anew each step."""

    def adamw(learning_rate: Any, weight_decay: Any) -> optax.GradientTransformation:
        own = optax.adamw(learning_rate, weight_decay=weight_decay)
        return optax.flatten(optax.chain(optax.clip_by_global_norm(1.0), own))

    return optax.inject_hyperparams(adamw)(learning_rate=0.0, weight_decay=0.0)


def rate_at(recipe: Recipe, step: int) -> float:
    """Learning rate: rises over the first twentieth, falls by a cosine to a twentieth."""
    rising = max(1, recipe.steps // 20)
    if step < rising:
        return recipe.rate * (step + 1) / rising
    falling = 0.5 + 0.5 * math.cos(math.pi * (step - rising) / max(1, recipe.steps - rising))
    return recipe.rate * (0.05 + 0.95 * falling)


class Rates(NamedTuple):
    """What may change without compiling again."""

    learning: Array
    decay: Array
    dropout: Array  # share of each token left out, the rest larger by as much (Srivastava et al., JMLR 2014)


@eqx.filter_jit
def one_step(learner: Learner, optimiser: Any, features: Array, now: Step, key: Array, rates: Rates, width: int) -> Any:
    """The learner and the optimiser's state after a step, and its loss."""
    kept = jax.random.bernoulli(key, 1.0 - rates.dropout, (*now.target.shape, width)) / (1.0 - rates.dropout)
    loss, slope = eqx.filter_value_and_grad(loss_of)(learner, features, now, kept)
    optimiser = optax.tree_utils.tree_set(optimiser, learning_rate=rates.learning, weight_decay=rates.decay)
    change, optimiser = optimiser_of().update(slope, optimiser, eqx.filter(learner, eqx.is_array))
    return eqx.apply_updates(learner, change), optimiser, loss


def train(
    data: Sequences,
    recipe: Recipe,
    shape: Shape,
    checkpoint: Path | None = None,
    every: int = 100,
    step: Callable[[float], None] = lambda loss: None,
    until: int | None = None,
) -> Learner:
    """Train to the end, or to step ``until``; go on from ``checkpoint`` where there is one, write it ``every`` steps.

    Args:
        step: called after each step done here with its loss.
    """
    learner = made(recipe, data, shape)
    run = Run(learner, optimiser_of().init(eqx.filter(learner, eqx.is_array)), 0)
    about = {"recipe": asdict(recipe), "shape": asdict(shape), "data": data.name}
    if checkpoint is not None and checkpoint.exists():
        run = read(checkpoint, run, about)
    features, last = jnp.asarray(data.features), recipe.steps if until is None else min(until, recipe.steps)
    learner, optimiser = run.learner, run.optimiser
    for n in range(run.step, last):
        key = jax.random.fold_in(jax.random.key(recipe.seed, impl="rbg"), n)  # threefry takes longer
        rates = Rates(*(jnp.float32(x) for x in (rate_at(recipe, n), recipe.decay, recipe.dropout)))
        now = drawn(data, recipe, shape, n)
        learner, optimiser, loss = one_step(
            learner, optimiser, features, now, key, rates, max(shape.width, shape.content)
        )
        step(float(loss))
        if checkpoint is not None and ((n + 1) % every == 0 or n + 1 == last):
            write(checkpoint, Run(learner, optimiser, n + 1), about)
    return learner


def write(path: Path, run: Run, about: dict[str, Any]) -> None:
    """Save a training as it stands."""
    arrays.save(path, "encoder-training", VERSION, kept.leaves(run[:2]), about | {"step": run.step})


def read(path: Path, like: Run, about: dict[str, Any]) -> Run:
    """A saved training. Raises BadRequest on a file of another kind, version, recipe, shape or data set."""
    found, said = arrays.load(path, "encoder-training", VERSION)
    for key, value in about.items():
        if said.get(key) != value:
            raise BadRequest(f"{path}: its {key} is {said.get(key)}, this run's is {value}; give another file")
    learner, optimiser = kept.put_back(path, found, like[:2])
    return Run(learner, optimiser, int(said["step"]))
