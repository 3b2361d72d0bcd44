"""Measurements of the service, as commands."""
