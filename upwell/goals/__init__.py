"""Goals in words: what operators want, as reward weights and reward programs, asked of a model and checked."""
