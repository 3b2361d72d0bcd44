"""The wire's records: what comes in is checked, what goes out comes back the same."""

import msgspec
import pytest

from upwell import model


def decode(text: str, what: type) -> object:
    return msgspec.json.decode(text.encode("utf-8"), type=what)


def test_records_come_back_as_they_went():
    item = model.Item(
        id="c", position=0, heated=True, explored=False, propensity=1.0, reasons=("heated:chance",), logit=0.5,
        contributions={"fit": 0.25, "promise": 0.25},
    )  # fmt: skip
    weights = model.Weights(user_satisfaction=0.4, platform_revenue=0.3, long_term=0.3)
    sent = model.Decision(
        decision_id="d", user_id="u", ts=1, items=(item,), arm="rules", policy_version="0", weights_version="0",
        weights=weights,
    )  # fmt: skip
    assert msgspec.json.decode(msgspec.json.encode(sent), type=model.Decision) == sent


@pytest.mark.parametrize("name", ["é" * 65, "x" * 129, ""])
def test_ids_are_one_to_128_bytes(name):
    with pytest.raises(msgspec.ValidationError):
        decode(msgspec.json.encode({"id": name, "created_at": 0}).decode(), model.User)


@pytest.mark.parametrize(
    ("field", "value"),
    [("ts", -1), ("value", -0.5), ("completion", 1.5), ("dwell_s", 1e9), ("kind", "like"), ("clicked", "yes")],
)
def test_a_bad_interaction_is_refused_by_field(field, value):
    event = {"event_id": "e", "content_id": "c", "user_id": "u", "ts": 5} | {field: value}
    with pytest.raises(msgspec.ValidationError, match=field):
        decode(msgspec.json.encode(event).decode(), model.Interaction)


def test_an_interaction_may_have_no_decision():
    event = decode('{"event_id":"e","content_id":"c","user_id":"u","ts":5,"decision_id":null}', model.Interaction)
    assert isinstance(event, model.Interaction)
    assert event.decision_id is None
    assert event.kind == "view"


def test_a_grants_books():
    grant = model.Grant(id="g", content_id="c", granted=10, spent=4, released=1, price=0.1, created_at=0)
    assert grant.outstanding == 5
