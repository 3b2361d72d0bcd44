"""One command, ``upwell``. Heavy imports happen inside commands, so that ``--help`` is instant."""

from __future__ import annotations

import os
import sys

import typer
from typer.exceptions import TyperException

from upwell.cli import (
    audit,
    bench,
    demo,
    doctor,
    evaluate,
    experiment,
    experiments,
    explain,
    export,
    goals,
    init,
    logs,
    policies,
    serve,
    train,
    trust,
    world,
)  # fmt: skip
from upwell.errors import UpwellError

app = typer.Typer(
    name="upwell",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Behind your ranker, before your users: lets good new content rise and interests widen.",
)
init.register(app)
world.register(app)
demo.register(app)
experiment.register(app)
evaluate.register(app)
train.register(app)
export.register(app)
logs.register(app)
doctor.register(app)
serve.register(app)
explain.register(app)
policies.register(app)
trust.register(app)
audit.register(app)
app.add_typer(goals.app, name="goals")
app.add_typer(experiments.app, name="experiments")
app.add_typer(bench.app, name="bench")

CTRL_C = 130
"""What typer makes of it, and returns."""


def main() -> None:
    """Entry point: errors are one line and an exit code (0 done, 1 failed while running, 2 the request was wrong)."""
    try:
        if app(standalone_mode=False) == CTRL_C:
            fail("stopped", 1)
    except UpwellError as error:
        fail(str(error), error.exit_code)
    except TyperException as error:
        if message := error.format_message():  # empty after the help that a bare `upwell` prints
            fail(f"{message} (see --help)", 2)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        fail("stopped", 1)
    except Exception as error:
        if os.environ.get("UPWELL_DEBUG"):
            raise
        fail(f"{type(error).__name__}: {error} (set UPWELL_DEBUG=1 for the traceback)", 1)


def fail(message: str, code: int) -> None:
    sys.stderr.write(f"upwell: {message}\n")
    sys.exit(code)
