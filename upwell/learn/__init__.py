"""Training: behaviour encoder, multi-agent PPO and what it is compared with. Needs the extra ``learn``."""
