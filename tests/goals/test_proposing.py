"""From goal to proposal, with metrics that are formulas of the weights, and a model that is a list of answers.

The model here is made up, to drive the rounds; ``test_llm`` asks a real engine.
"""

from collections.abc import Sequence

import numpy as np
import pytest

from upwell.errors import BadRequest
from upwell.experiment.asking import MANY, PROGRAMS, Asking
from upwell.experiment.proof import Candidate, Kept, Platforms
from upwell.experiment.proposing import ROUNDS, parted, propose, unproven
from upwell.experiment.search import BUDGET, array_of
from upwell.goals import answer
from upwell.goals.goal import Aim, Bound, Goal
from upwell.goals.llm import Reply
from upwell.goals.weights import DEFAULT
from upwell.model import Weights
from upwell.world.arm import RAW
from upwell.world.config import WorldConfig

NOW = Candidate(DEFAULT)
UP = Goal(id="g", text="raise ctr", created_at=0, aims=(Aim(metric="ctr", direction="up"),))
GOOD = '{"weights": {"user_satisfaction": 0.6, "platform_revenue": 0.2, "long_term": 0.2}}'
BAD = '{"weights": {"user_satisfaction": 0, "platform_revenue": 1, "long_term": 0}}'


class Formulas(Kept):
    """Every candidate has been lived everywhere: click rate rises with users' share, revenue with its own."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: dict[Candidate, set[int]] = {}

    def get(self, candidate: Candidate, seed: int) -> dict[str, float]:
        self.asked.setdefault(candidate, set()).add(seed)
        user, revenue, _ = array_of(candidate.weights)
        own = np.random.default_rng([seed, int(1e6 * user), int(1e6 * revenue)]).normal()
        net = 1.0 + revenue
        return {
            "ctr": 1.0 + user + 0.01 * own + (0.5 if candidate.program else 0.0), "expected_net_gmv_per_dau": net,
            "net_gmv_per_dau": net, "heating_yuan_per_day": 0.0, "dau": 100.0,
        }  # fmt: skip


class Model:
    """Gives these raw answers, a round each; what it was asked stays in ``questions``."""

    def __init__(self, *rounds: Sequence[str]) -> None:
        self.rounds, self.questions = rounds, []

    def ask(self, question, many):
        said = self.rounds[min(len(self.questions), len(self.rounds) - 1)]
        self.questions.append(question)
        why = "" if said else "TimeoutError: no answer within 60 s"
        return Reply(tuple(map(answer.read, said)), tuple(said), "hash", "made-up", 0.1, 7, why)


def platforms(seeds: int = 10) -> Platforms:
    return Platforms(WorldConfig(), RAW, dict.fromkeys(range(seeds)), 7, lambda: None, Formulas())


def propose_by(model: Model | None, goal: Goal = UP, where: Platforms | None = None):
    return propose(goal, where or platforms(), NOW, 5, Asking(model) if model else None)


def test_without_a_model_the_search_proposes_what_it_proves_elsewhere():
    where = platforms()
    made = propose_by(None, where=where)
    assert (made.source, made.meets, made.created_at, made.rounds) == ("search", True, 5, 0)
    assert made.weights == Weights(user_satisfaction=0.6, platform_revenue=0.2, long_term=0.2), "the most there may be"
    # .2 more, and a noise of .01 on each side over six platforms
    assert made.predicted["ctr"].change == pytest.approx(0.2, abs=0.02)
    assert made.predicted["ctr"].low > 0.0
    assert len(made.considered) <= BUDGET
    asked = where.kept.asked
    assert {one for one, seeds in asked.items() if seeds & set(range(4, 10))} == {NOW, Candidate(made.weights)}
    assert made.considered == tuple(sorted(made.considered, reverse=True))


def test_what_a_round_did_goes_into_the_next_question():
    model = Model([BAD], [GOOD], [GOOD])
    made = propose_by(model)
    assert made.rounds == len(model.questions) == 3, "the third brought nothing new"
    first, second, third = model.questions
    assert first.rounds == ()
    assert [one.weights.platform_revenue for one in second.rounds] == [pytest.approx(0.6)], "not 1: within the limits"
    assert second.rounds[0].effects["ctr"].change == pytest.approx(-0.2, abs=0.05)
    assert second.rounds[0].became.startswith("score -")
    assert "answers the goal" in third.rounds[1].became
    assert first.state["ctr"] == pytest.approx(1.4, abs=0.02), "of the simulated platforms, where none is given"
    assert (made.model, made.prompt_hash, made.answer) == ("made-up", "hash", f"{BAD}\n{GOOD}\n{GOOD}")


def test_a_program_that_helps_beats_the_search_which_has_none():
    made = propose_by(Model(['{"weights": null, "program": "0.10"}']))
    assert (made.source, made.program) == ("llm", "0.1"), "as programs are printed"
    assert made.weights == DEFAULT
    assert made.rejected[-1].what.startswith("search: 0.60 / 0.20 / 0.20")
    assert "llm scores" in made.rejected[-1].why


def test_a_model_that_found_no_more_than_the_search_gets_no_credit():
    assert propose_by(Model([GOOD])).source == "search"


def test_a_worse_candidate_of_a_model_is_told_beside_the_searchs():
    made = propose_by(Model([BAD]))
    assert made.source == "search"
    assert made.rejected[-1].what == "llm: 0.25 / 0.60 / 0.15"
    assert "search scores" in made.rejected[-1].why


@pytest.mark.parametrize("said", [[], ["no"], ["{"], ['{"weights": {"user_satisfaction": -1}}'], [""] * 4])
def test_whatever_a_model_does_the_search_answers(said):
    made = propose_by(Model(said))
    assert (made.source, made.meets) == ("search", True)
    assert made.rejected, "what was wrong is told"
    assert made.rounds == 1, "the same question would be answered the same"


def test_few_programs_are_lived():
    programs = [f'{{"weights": null, "program": "0.{n}"}}' for n in (10, 15, 20, 25)]
    where = platforms()
    made = propose_by(Model(programs[:2], programs[2:]), where=where)
    assert len({one.program for one in where.kept.asked if one.program}) == PROGRAMS
    assert sum("programs were tried" in one.why for one in made.rejected) == 2


def test_a_model_lives_no_more_than_the_search_may():
    assert MANY * ROUNDS == BUDGET
    one = '{{"weights": {{"user_satisfaction": {}, "platform_revenue": {}, "long_term": 20}}}}'
    model = Model(*([one.format(40 + n, 40 - m) for n in range(0, 8, 2)] for m in range(0, 40, 4)))
    propose_by(model)
    assert len(model.questions) <= ROUNDS


def test_a_goal_that_nothing_answers_leaves_the_weights_as_they_are():
    bound = Bound(metric="net_gmv_per_dau", low=0.05, relative=True)  # more revenue, which takes users' share
    goal = Goal(id="g", text="…", created_at=0, aims=UP.aims, bounds=(bound, Bound(metric="ctr", high=1.0)))
    made = propose_by(None, goal)
    assert (made.source, made.weights, made.meets, made.predicted) == ("fallback", DEFAULT, False, {})
    assert "present setting scores 0" in made.rejected[0].why
    assert "not shown to hold" in made.rejected[0].why


def test_aims_that_only_the_model_understood_are_taken_and_bounds_kept():
    bound = Bound(metric="net_gmv_per_dau", low=-0.5, relative=True)
    goal = Goal(id="g", text="让大家更爱点", created_at=0, bounds=(bound,))
    said = GOOD[:-1] + (
        ', "aims": [{"metric": "ctr", "direction": "up"}],'
        ' "bounds": [{"metric": "net_gmv_per_dau", "low": -1, "relative": true}, {"metric": "dau", "low": 1}]}'
    )
    model = Model([said])
    made = propose_by(model, goal)
    assert made.meets
    assert model.questions[0].language == "zh"
    unread = propose_by(Model([GOOD]), goal)
    assert (unread.source, unread.meets) == ("fallback", False), "nobody said what is to move"


def test_unproven_takes_the_first_answer_within_the_limits_and_predicts_nothing():
    made = unproven(UP, NOW, 5, Asking(Model(["no", BAD])))
    assert (made.source, made.predicted, made.meets) == ("llm", {}, False)
    assert made.weights.platform_revenue == pytest.approx(0.6)
    assert unproven(UP, NOW, 5, None).weights == DEFAULT


def test_platforms_to_choose_on_are_none_to_prove_on():
    assert parted(range(10)) == (range(4), range(4, 10))
    assert [len(part) for part in parted(range(4))] == [2, 2]
    with pytest.raises(BadRequest, match="3 platforms: give 4 or more"):
        propose_by(None, where=platforms(3))
