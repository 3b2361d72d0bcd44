"""Decisions as operators see them: an id names a decision or nothing."""

from __future__ import annotations

from urllib.parse import quote

from http_server import event, refused


def test_what_became_of_a_decision_is_no_decision(served):
    answer = served.recommend("watcher").json()
    assert served.tell(event(answer, "watcher")).json()["accepted"] == 1
    id = answer["decision_id"]
    assert served.http.get(f"/v1/decisions/{id}").json()["decision_id"] == id  # and the outcome is saved with it
    for path in (f"{id}/outcome", quote(f"{id}/outcome", safe=""), quote(f"{id}/outcome/outcome", safe=""), "/outcome"):
        refused(served.http.get(f"/v1/decisions/{path}"), 404, "not_found", "id")
    about = event(answer, "watcher", decision_id=f"{id}/outcome")
    assert [one["code"] for one in served.tell(about).json()["rejected"]] == ["unknown_decision"]
