"""What an experiment may be, and whom it is for."""

import msgspec
import numpy as np
import pytest

from upwell.errors import BadRequest
from upwell.regulator.assignment import tables
from upwell.regulator.layers import Arm, Experiment, Layer
from upwell.regulator.targeting import Target, Traits, meets

HALVES = (Arm(name="control", share=0.5), Arm(name="treated", share=0.5))


def layer(*experiments, name="layer"):
    return Layer(name=name, experiments=experiments)


@pytest.mark.parametrize(
    ("comparison", "value", "holds"),
    [
        ("==", 3.0, [0, 1, 0, 0]), ("!=", 3.0, [1, 0, 1, 0]), ("<", 3.0, [1, 0, 0, 0]), ("<=", 3.0, [1, 1, 0, 0]),
        (">", 3.0, [0, 0, 1, 0]), (">=", 3.0, [0, 1, 1, 0]), ("in", (2.0, 3.0), [1, 1, 0, 0]),
        ("not in", (2.0, 3.0), [0, 0, 1, 0]), ("==", "de", [0, 0, 0, 0]),
    ],
)  # fmt: skip
def test_conditions(comparison, value, holds):
    targets = (Target(attribute="days", comparison=comparison, value=value),)
    days = np.array([2.0, 3.0, 4.0, np.nan])
    assert (meets(targets, Traits({"days": days})) * np.ones(4)).tolist() == holds
    assert [meets(targets, Traits({"days": x})) for x in days.tolist()] == [bool(one) for one in holds]
    for unknown in (Traits(), Traits({"days": None}), Traits(content={"days": 3.0})):
        assert meets(targets, unknown) is False


def test_a_text_meets_no_number():
    target = Target(attribute="country", comparison="<", value=3.0)
    assert meets((target,), Traits({"country": "de"})) is False
    assert meets((target,), Traits({"country": np.array(["de"])})) is False


RIGHT = {"name": "x", "arms": [{"name": "a", "share": 0.5, "settings": {"mode": "rules", "guards": {"cap": 0.1}}}]}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"arms": []}, "no arm"),
        ({"arms": [{"name": "a", "share": 0.5}, {"name": "a", "share": 0.1}]}, "arm a comes twice"),
        (
            {"arms": [{"name": "a", "share": 0.6}, {"name": "b", "share": 0.5}]},
            "shares of its arms are 1.1, more than 1",
        ),
        ({"arms": [{"name": "a", "share": 0.1, "room": 0.6}, {"name": "b", "share": 0.1, "room": 0.6}]}, "rooms"),
        ({"arms": [{"name": "a", "share": 0.3, "room": 0.2}]}, "arm a: share 0.3 is over its room 0.2"),
        ({"arms": [{"name": "a", "share": 0.9}, {"name": "b", "share": 0.1}]}, "share 0.9 is over its room 0.5"),
        ({"arms": [{"name": "a", "share": 0.00005}]}, "not in steps of 0.0001"),
        ({"arms": [{"name": "a", "share": 1.5}]}, "1.5"),
        ({"buckets": [5, 5]}, "buckets 5 to 5"),
        ({"buckets": [0, 10_001]}, "buckets 0 to 10001"),
        ({"design": "coin"}, "coin"),
        ({"design": "switchback"}, "slot_s"),
        ({"design": "switchback", "slot_s": 60, "washout_s": 60}, "washout_s"),
        ({"slot_s": 60}, "slot_s"),
        ({"washout_s": 60}, "washout_s"),
        ({"targets": [{"attribute": "age", "comparison": "=~", "value": 3}]}, "=~"),
        ({"targets": [{"attribute": "age", "comparison": "<", "value": "3"}]}, "takes a number"),
        ({"targets": [{"attribute": "age", "comparison": "<", "value": True}]}, "takes a number"),
        ({"targets": [{"attribute": "age", "comparison": "<", "value": [3]}]}, "takes one value"),
        ({"targets": [{"attribute": "age", "comparison": "in", "value": 3}]}, "takes a list"),
        ({"targets": [{"attribute": "age", "comparison": "in", "value": []}]}, "takes a list"),
        ({"targets": [{"of": "shop", "attribute": "age", "comparison": "==", "value": 3}]}, "shop"),
        ({"design": "budget_split", "targets": [{"attribute": "age", "comparison": "==", "value": 3}]}, "no targets"),
    ],
)
def test_a_wrong_experiment_says_what_is_wrong(wrong, says):
    def made(document):
        targets = tuple(
            Target(**target | {"value": tuple(v) if isinstance(v := target["value"], list) else v})
            for target in document.get("targets", ())
        )
        return Experiment(**document | {"targets": targets, "arms": tuple(Arm(**arm) for arm in document["arms"])})

    with pytest.raises(BadRequest, match=says):
        made(RIGHT | wrong)
    # From JSON the decoder may be first to see it.
    with pytest.raises((BadRequest, msgspec.ValidationError)):
        msgspec.json.decode(msgspec.json.encode(RIGHT | wrong), type=Experiment)
    assert made(RIGHT) == msgspec.json.decode(msgspec.json.encode(RIGHT), type=Experiment)


def test_a_wrong_layer_says_what_is_wrong():
    one, clustered = (
        Experiment(name="x", arms=HALVES, buckets=(0, 50)),
        Experiment(name="co", arms=HALVES, design="co_diverted"),
    )
    with pytest.raises(BadRequest, match="x and y overlap in buckets 40 to 50"):
        layer(one, Experiment(name="y", arms=HALVES, buckets=(40, 90)))
    with pytest.raises(BadRequest, match="experiment x comes twice"):
        layer(one, Experiment(name="x", arms=HALVES, buckets=(50, 90)))
    with pytest.raises(BadRequest, match="layer of their own"):
        layer(one, msgspec.structs.replace(clustered, buckets=(50, 90)))
    with pytest.raises(BadRequest, match="layer layer comes twice"):
        tables([layer(), layer()], 0.0)
    with pytest.raises(BadRequest, match="experiment x comes twice"):
        tables([layer(one), layer(one, name="other")], 0.0)
    two = tables([layer(one), layer(Experiment(name="y", arms=HALVES), name="other")], 0.05)
    assert [len(table.arms) for table in two] == [2, 2]
