"""Real logs: what they tell a world."""
