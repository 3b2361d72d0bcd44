"""Upwell: decides in milliseconds what each user sees, so that good new content rises."""

__version__ = "0.1.0"
