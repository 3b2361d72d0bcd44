"""The platform as it is: the ranker's own order, nothing heated, nothing explored."""

from upwell.world.arm import Arm, ranker_scores

raw = Arm(name="raw", scores=ranker_scores)
