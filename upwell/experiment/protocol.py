"""The fixed evaluation protocol, one file for every world and arm: ``protocol.toml`` says how it was chosen."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Protocol(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an experiment runs where nothing else is asked for."""

    users: int
    contents: int
    days: int  # judged
    burn_in: int  # days under raw ranking before
    seeds: int


def fixed() -> Protocol:
    """The protocol that ships with the package."""
    text = (Path(__file__).parent / "protocol.toml").read_bytes()
    return msgspec.toml.decode(text, type=Protocol)
