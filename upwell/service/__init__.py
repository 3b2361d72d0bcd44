"""The real-time service: requests in, slates out in milliseconds, every interaction applied exactly once."""
