"""Arrays in a file, with what they are and of which version: weights, states, checkpoints. Data, never code."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from upwell.errors import BadRequest

HEAD = "upwell"


class Head(msgspec.Struct):
    """What a file says of itself."""

    kind: str
    version: int
    about: dict[str, Any]


def save(path: Path, kind: str, version: int, arrays: dict[str, npt.NDArray[Any]], about: dict[str, Any]) -> None:
    """Write ``arrays`` and ``about`` (what JSON can hold) as npz, whole or not at all."""
    head = np.frombuffer(msgspec.json.encode(Head(kind, version, about)), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(path.suffix + ".part")
    with part.open("wb") as out:
        np.savez(out, allow_pickle=False, **{HEAD: head}, **arrays)
        out.flush()
        os.fsync(out.fileno())
    part.replace(path)


def load(path: Path, kind: str, version: int) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Arrays, and what was said about them. Raises BadRequest on anything but a ``kind`` of this ``version``."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        head = msgspec.json.decode(arrays.pop(HEAD).tobytes(), type=Head)
    except FileNotFoundError:
        raise BadRequest(f"{path}: no such file") from None
    except (OSError, ValueError, TypeError, AttributeError, KeyError, EOFError, zipfile.BadZipFile):
        raise BadRequest(f"{path}: not a file of arrays that Upwell wrote") from None
    if head.kind != kind:
        raise BadRequest(f"{path}: holds '{head.kind}', wanted '{kind}'")
    if head.version != version:
        raise BadRequest(f"{path}: {kind} of version {head.version}, this Upwell reads version {version}")
    return arrays, head.about
