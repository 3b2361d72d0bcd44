"""A thousand proposals asked of the real engine on a tiny model that knows nothing: what became of each.

Run by hand: ``PYTHONPATH=tests python tests/goals/thousand.py [PROPOSALS] [TOKENS]``. Prints progress to stderr and one
JSON document: proposals; ``crashes`` (the engine died, or something raised); ``bounded`` (weights within bounds and a
step of now); ``taken`` and ``fallen_back`` (weights that moved, and those that stayed as they were, with why); seconds.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import engine
import numpy as np
from test_answer import NOW, end_bounded
from test_injection import corpus, question

from upwell.goals.llm import Asker
from upwell.goals.weights import checked

AT_ONCE = 4


def main(proposals: int, tokens: int) -> None:
    became: Counter[str] = Counter()
    whys: Counter[str] = Counter()
    seconds: list[float] = []
    injections = corpus()
    with tempfile.TemporaryDirectory() as folder, engine.running(Path(folder)) as started:
        asker = Asker(started.url, max_tokens=tokens, timeout_s=300.0, temperature=1.0)
        for at in range(0, proposals, AT_ONCE):
            language, text = injections[at // AT_ONCE % len(injections)]
            asked = question(text, language, "goal")._replace(state={"dau": float(at)})
            try:
                reply = asker.ask(asked, AT_ONCE)
                seconds.append(reply.seconds / AT_ONCE)
                whys.update([reply.why_none] * bool(reply.why_none))
                for answer in reply.answers:
                    end_bounded(answer)
                    became["bounded"] += 1
                    refused = (*answer.refused, *checked(answer.weights, NOW).refused)
                    moved = answer.weights is not None and not checked(answer.weights, NOW).refused
                    became["taken" if moved else "fallen_back"] += 1
                    became["programs_taken"] += bool(answer.program)
                    whys.update({one.why.split(":")[0][:60] for one in refused})
                became["no_answer"] += AT_ONCE - len(reply.answers)
            except Exception as error:
                became["crashes"] += 1
                whys[repr(error)[:200]] += 1
            print(f"\r{at + AT_ONCE} of {proposals}", end="", file=sys.stderr, flush=True)
        became["crashes"] += not started.healthy()
    print(file=sys.stderr)
    p50, p99 = np.percentile(seconds, [50, 99]).round(3).tolist()
    times = {"seconds_a_proposal_p50": p50, "seconds_a_proposal_p99": p99, "why": dict(whys.most_common(12))}
    print(json.dumps({"proposals": len(seconds) * AT_ONCE, "crashes": 0, **became, **times}, indent=1))


if __name__ == "__main__":
    main(*(int(argument) for argument in (*sys.argv[1:], *("1000", "1500")[len(sys.argv) - 1 :])))
