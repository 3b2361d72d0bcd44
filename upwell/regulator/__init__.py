"""The decision maths that world and service share: slow tick, fast slate, ledger, guards, trust."""
