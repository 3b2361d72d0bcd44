"""What a content lacked to be shown was what it lacked: with it, it is shown."""

import msgspec
import pytest

from upwell.regulator import slate
from upwell.service import why, wire


def unseen(line):
    """Contents of a decision that were not decided for."""
    held = {place.id for place in line.instead or line.places}
    return [name for name in dict.fromkeys([*line.question.candidates, *line.question.grants]) if name not in held]


def raised(line, way, content, by):
    """The slate built again with the content's score raised by ``by`` steps."""
    asked = line.question
    heats = way.way == "heated"
    scores = (wire.floats(asked.grant_scores) if heats else wire.scores_of(asked)).copy()
    scores[(asked.grants if heats else asked.candidates).index(content)] += by
    field = {"grant_scores" if heats else "scores": scores.tobytes()}
    return wire.again(msgspec.structs.replace(line, question=msgspec.structs.replace(asked, **field)))


def test_with_what_it_lacked_a_content_is_shown_and_with_less_it_is_not(logged):
    seen = {"ranked": 0, "heated": 0}
    for line in logged:
        for content in unseen(line)[:6] + [name for name in line.question.grants if name in unseen(line)]:
            for way in why.ways(line, content):
                if way.lacked is None:
                    continue
                steps = round(way.lacked * 1024)
                assert content in [place.id for place in raised(line, way, content, steps)]
                assert content not in [place.id for place in raised(line, way, content, steps - 2)]
                seen[way.way] += 1
    assert seen["ranked"] > 500
    assert seen["heated"] > 30


def test_the_chance_to_be_tried_is_the_one_that_was_drawn_with(logged):
    checked = 0
    for line in logged:
        places, asked = line.instead or line.places, line.question
        first = slate.explored_places(asked.size)[:1]
        for k in first:
            if k < len(places) and places[k].kind == slate.EXPLORED:
                share = why.drawn_share(asked, places, places[k].id)
                assert places[k].propensity == pytest.approx(asked.probability * share, rel=1e-4)
                checked += 1
    assert checked > 20


def test_every_way_is_spoken_of_and_what_was_shown_lacked_nothing(logged):
    said = set()
    for line in [line for line in logged if line.places][:200]:
        assert why.ways(line, (line.instead or line.places)[0].id) == []
        for content in [*unseen(line)[:3], "never heard of"]:
            ways = why.ways(line, content)
            assert [way.way for way in ways] == ["ranked", "heated", "explored"]
            assert all(way.sentence and way.sentence_zh for way in ways)
            said |= {way.sentence for way in ways if way.lacked is None and way.chance is None}
    assert "The ranker did not offer it." in said
    assert len(said) > 4
    assert why.ways(msgspec.structs.replace(logged[0], question=None), "x") == []
