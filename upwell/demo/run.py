"""One demonstration: a platform that fell ill lives some days with the service before its users."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from upwell.demo import bootstrap
from upwell.demo.live import Figures, Platform
from upwell.errors import UpwellError
from upwell.experiment import metrics, runner
from upwell.service.settings import Settings
from upwell.state import open_store
from upwell.world import world
from upwell.world.config import WorldConfig
from upwell.world.state import WorldState


class Lived(NamedTuple):
    """Days under the service."""

    reports: list[metrics.Report]
    figures: Figures
    seconds: float


class Live(NamedTuple):
    """What a morning may reach into."""

    platform: Platform
    settings: Settings


Morning = Callable[[int, WorldState, Live], WorldState]
"""Of the number of the day, from 0, and the platform as it is then: the platform as it is to be."""


@contextlib.contextmanager
def service(settings: Settings) -> Generator[str]:
    """The real service in a process of its own; yields its URL. Raises UpwellError when it does not start."""
    command = [sys.executable, "-m", "upwell.service.child", "alone"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(settings.with_secrets() + b"\n")
        process.stdin.flush()
        url = process.stdout.readline().decode().strip()
        if not url:
            raise UpwellError("the service did not start: see its messages above")
        yield url
    finally:
        process.stdin.close()  # it stops when the pipe does
        process.wait(timeout=30)
        process.stdout.close()


@contextlib.contextmanager
def served(config: WorldConfig, state: WorldState, step: Callable[[Figures], None], **given: object) -> Generator[Live]:
    """A platform that brings its past along, with the real service before its users. ``state`` is left untouched."""
    host: WorldState = jax.tree.map(np.asarray, state)
    with tempfile.TemporaryDirectory(prefix="upwell-demo-") as folder:
        settings = bootstrap.settings_of(config, host, data=Path(folder), port=0, **given)
        store = open_store(settings.store_url)
        bootstrap.write(store, config, host)
        store.close()
        with service(settings) as url:
            platform = Platform(config, url, host.contents, step)
            try:
                yield Live(platform, settings)
            finally:
                platform.close()


def live(
    config: WorldConfig,
    state: WorldState,
    days: int,
    step: Callable[[Figures], None],
    deadline: float,
    morning: Morning = lambda day, state, live: state,
    **given: object,
) -> Lived:
    """Days of a burnt-in platform with the service between its ranker and its users. ``state`` is left untouched.

    ``step`` is called after each tick; the day in which ``deadline`` (``time.perf_counter``) falls is the last.
    ``given``: settings of the service. ``morning``: before each day, and once more after the last.
    """
    with served(config, state, step, **given) as around:
        began, reports = time.perf_counter(), list[metrics.Report]()
        now, arm = jax.tree.map(jnp.copy, state), around.platform.arm()
        for day in range(days):
            now = morning(day, now, around)
            now, report = world.run_day(config, arm, now)
            reports.append(world.to_host(report) | runner.truth(now))
            if time.perf_counter() > deadline:
                break
        morning(len(reports), now, around)
    return Lived(reports, around.platform.figures, time.perf_counter() - began)
