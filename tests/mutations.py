"""Turns each guard off in a copy of the package and sees which test notices. Run by hand: `python tests/mutations.py`.

A guard that no test misses is a guard that nobody would miss. Each mutation is a text substitution that must match
exactly once; the named test must pass on the untouched copy and fail on the mutated one. The working tree is never
written to. Give words to run only the mutations whose name holds one of them. Exit code 1 when a mutation survives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mutation_table import MUTATIONS, Mutation

ROOT = Path(__file__).parent.parent


def passes(copy: Path, *tests: str) -> bool:
    """Whether tests pass in a copy of the repository."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests],
        cwd=copy, env=os.environ | {"PYTHONPATH": str(copy)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 1):  # neither passed nor failed: nothing was collected, say
        raise SystemExit(f"{tests}: pytest ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.returncode == 0


def survives(copy: Path, mutation: Mutation) -> bool:
    """Whether the named test fails to notice the mutation; the copy is restored."""
    path = copy / mutation.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutation.old) != 1:
        raise SystemExit(f"{mutation.guard}: {mutation.file} holds the text {text.count(mutation.old)} times, not once")
    path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        return passes(copy, mutation.test)
    finally:
        path.write_text(text, encoding="utf-8")


def main() -> int:
    words = sys.argv[1:]
    chosen = [m for m in MUTATIONS if not words or any(word in m.guard for word in words)]
    alive: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("upwell", "tests", "worlds", "examples"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        if not passes(copy, *sorted({m.test for m in chosen})):
            raise SystemExit("some of the tests fail before any mutation: run them first")
        for mutation in chosen:
            lives = survives(copy, mutation)
            alive += [mutation.guard] * lives
            print(f"{'SURVIVES' if lives else 'caught':9} {mutation.guard:40} {mutation.test}", flush=True)
    print(f"{len(chosen) - len(alive)} of {len(chosen)} mutations caught")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
