"""Learning in production: what users did becomes a new version of the policy, and a version must earn its traffic."""
