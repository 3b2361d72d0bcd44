"""The platform as it is: the ranker's own order, nothing heated, nothing explored."""

from upwell.world.arm import RAW as raw  # noqa: N811

__all__ = ["raw"]
