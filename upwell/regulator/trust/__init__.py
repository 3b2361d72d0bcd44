"""Trust: evidence of who clicks what, rings in it, and how likely each content, creator and account is to cheat."""
