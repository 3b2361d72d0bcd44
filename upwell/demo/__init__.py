"""The whole of it, live: the simulated platform's users before the real service, over HTTP."""
