"""The simulated platform: users, contents, creators, a raw ranker and the responses, in arrays."""
