"""Arrays in a file, with what they are and of which version: weights, states, checkpoints. Data, never code."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from upwell import files
from upwell.errors import BadRequest

HEAD = "upwell"


class Head(msgspec.Struct):
    """What a file says of itself."""

    kind: str
    version: int
    about: dict[str, Any]


def pack(kind: str, version: int, arrays: dict[str, npt.NDArray[Any]], about: dict[str, Any]) -> bytes:
    """``arrays`` and ``about`` (what JSON can hold) as npz."""
    head = np.frombuffer(msgspec.json.encode(Head(kind, version, about)), np.uint8)
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **{HEAD: head}, **arrays)
    return out.getvalue()


def unpack(data: bytes, kind: str, version: int, name: str) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """What ``pack`` packed. Raises BadRequest, about ``name``, on anything but a ``kind`` of this ``version``."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        head = msgspec.json.decode(arrays.pop(HEAD).tobytes(), type=Head)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, EOFError, zipfile.BadZipFile):
        raise BadRequest(f"{name}: not a file of arrays that Upwell wrote") from None
    if head.kind != kind:
        raise BadRequest(f"{name}: holds '{head.kind}', wanted '{kind}'")
    if head.version != version:
        raise BadRequest(f"{name}: {kind} of version {head.version}, this Upwell reads version {version}")
    return arrays, head.about


def save(path: Path, kind: str, version: int, arrays: dict[str, npt.NDArray[Any]], about: dict[str, Any]) -> None:
    """Write what ``pack`` packs, whole or not at all."""
    files.put(path, pack(kind, version, arrays, about))


def load(path: Path, kind: str, version: int) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """What ``save`` wrote. Raises BadRequest where there is no such file, and as ``unpack`` does."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise BadRequest(f"{path}: no such file") from None
    except OSError:
        raise BadRequest(f"{path}: not a file of arrays that Upwell wrote") from None
    return unpack(data, kind, version, str(path))
