"""The three populations of agents, as pure, batch-first functions over an array namespace."""
