"""From a goal to a proposal: a model's candidates where there is a model, the search beside them, and proof for both.

Candidates are chosen on some of the platforms and the chosen are proven on the others, so that no proposal owes its
effects to the luck that it was chosen by.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from upwell.errors import BadRequest
from upwell.experiment.asking import MANY, Asking, Said, consult, failed
from upwell.experiment.proof import SETTLED_DAYS, Candidate, Platforms, meets, prove
from upwell.experiment.runner import Plan
from upwell.experiment.search import BUDGET, Tested, ranked, search, weights_of
from upwell.goals.goal import Effect, Goal, Proposal, Refusal, Source
from upwell.goals.weights import DEFAULT, NAMES, USUAL, Limits, shares
from upwell.model import Weights

ROUNDS = BUDGET // MANY
"""Rounds at most: then the model has had as many candidates lived as the search may."""


def propose(
    goal: Goal, platforms: Platforms, now: Candidate, at_ms: int, asking: Asking | None = None, limits: Limits = USUAL
) -> Proposal:
    """Weights (and a program) for a goal, with what they do.

    Proposed is the model's best candidate or the search's, whichever answers the goal better where both are proven;
    the present setting ("fallback") where that fails a bound or moves the aims the wrong way on the whole. What was
    not taken, of the model's answers too, is in ``rejected``; scores are those of ``proof.meets``.

    Args:
        now: the present setting.
        at_ms: the proposal's time, Unix ms.
        limits: how far from ``now`` weights may go.

    Raises BadRequest with fewer than four platforms. Nothing that a model says or does raises.
    """
    choosing, proving = parted(list(platforms.states))
    now = now._replace(weights=normal(now.weights))

    def tried(candidates: Sequence[Candidate]) -> list[dict[str, Effect]]:
        return prove(platforms, now, candidates, choosing)

    said = Said(goal, {}, (), ())
    if asking is not None:
        state = asking.state or {name: effect.before for name, effect in tried([now])[0].items()}
        said = consult(goal, now, asking._replace(state=state), limits, tried, ROUNDS)
        goal = said.goal
    searched = search(goal, now, limits, tried) if goal.aims else []
    asked = ranked(goal, said.found)
    finalists: dict[Candidate, Source] = {one.candidate: "llm" for one in asked[:1]}
    finalists |= {one.candidate: "search" for one in searched[:1]}  # found by both, it needed no model
    proven = ranked(goal, dict(zip(finalists, prove(platforms, now, list(finalists), proving), strict=True)))
    taken = next((one for one in proven if one.score > 0.0), None)
    source = finalists[taken.candidate] if taken else "fallback"
    lost = [
        Refusal(what=f"{finalists[one.candidate]}: {named(one.candidate)}", why=why_not(goal, one, taken, source))
        for one in proven
        if one is not taken
    ]
    considered = ranked(goal, {one.candidate: one.predicted for one in (*searched, *asked)})
    return replace(
        proposal(said, at_ms, taken.candidate if taken else now, source),
        predicted=dict(taken.predicted) if taken else {},
        meets=taken is not None and meets(goal, taken.predicted)[0],
        rejected=(*said.refused, *lost),
        considered=tuple(one.score for one in considered),
    )


def unproven(goal: Goal, now: Candidate, at_ms: int, asking: Asking | None, limits: Limits = USUAL) -> Proposal:
    """The model's first answer that holds, within the limits; nothing is lived, and nobody knows what it does."""
    now = now._replace(weights=normal(now.weights))
    said = Said(goal, {}, (), ())
    if asking is not None:
        said = consult(goal, now, asking, limits, lambda candidates: [{} for _ in candidates], rounds=1)
    taken = next(iter(said.found), None)
    return proposal(said, at_ms, taken or now, "llm" if taken else "fallback")


def proposal(said: Said, at_ms: int, taken: Candidate, source: Source) -> Proposal:
    last = said.replies[-1] if said.replies else None
    return Proposal(
        goal_id=said.goal.id,
        weights=taken.weights,
        program=taken.program,
        source=source,
        created_at=at_ms,
        aims=said.goal.aims,
        bounds=said.goal.bounds,
        rejected=tuple(said.refused),
        rounds=len(said.replies),
        model=last.model if last else "",
        prompt_hash=last.prompt_hash if last else "",
        answer="\n".join(text for reply in said.replies for text in reply.raw),
    )


def parted(seeds: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """Two fifths of the platforms to choose on, the others to prove on; two at least of each."""
    if len(seeds) < 4:
        raise BadRequest(
            f"{len(seeds)} platforms: give 4 or more, some to choose candidates on, others to prove them on"
        )
    first = max(2, len(seeds) * 2 // 5)
    return seeds[:first], seeds[first:]


def most_days(plan: Plan, asked: bool) -> int:
    """Simulated days that a proposal takes at most, for the progress bar."""
    choosing, proving = (len(seeds) for seeds in parted(plan.seeds))
    lived = choosing * (1 + BUDGET * (1 + asked)) + proving * (2 + asked)
    return plan.days * lived + settling(plan)


def settling(plan: Plan) -> int:
    """Days before platforms stand as they do now."""
    return (plan.burn_in + SETTLED_DAYS) * len(plan.seeds)


def normal(weights: Weights) -> Weights:
    """The same adding up to 1; ``DEFAULT`` where they are unusable."""
    values = shares(weights)
    return DEFAULT if values is None else weights_of(values.round(9))


def why_not(goal: Goal, one: Tested, taken: Tested | None, source: Source) -> str:
    """Why a finalist was not taken, and what it fails in."""
    better = f"{source} scores {taken.score:.2f}" if taken else "the present setting scores 0"
    failures = meets(goal, one.predicted)[2]
    return f"scores {one.score:.2f} and {better}{'; ' * bool(failures)}{failed(failures)}"[:2_000]


def named(candidate: Candidate) -> str:
    """``0.60 / 0.25 / 0.15``: users, revenue, long term, and the program."""
    weights = " / ".join(f"{getattr(candidate.weights, name):.2f}" for name in NAMES)
    return f"{weights}; {candidate.program}" if candidate.program else weights
