"""Statistics of live experiments: effects, sample-ratio mismatch, sequential looks, plans and verdicts."""
