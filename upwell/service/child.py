"""One process of several, ``python -m upwell.service.child server|worker FD``, or a service ``alone``.

Settings come as JSON on standard input: what stands in arguments can be read by everybody on the machine.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading

from upwell.service import run
from upwell.service.settings import Settings

LOG_FORMAT = "%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s"


def main() -> None:
    role, settings = sys.argv[1], begun()
    if role == "alone":
        run.serve(settings, lambda url: print(url, flush=True))
    elif role == "server":
        run.serve_on(settings, socket.socket(fileno=int(sys.argv[2])), ready)
    else:
        stopped = stop_asked()
        run.work(settings, lambda: not stopped.is_set(), ready)


def begun() -> Settings:
    """The settings of a process that ``run.Family`` started; its log goes to standard error, and it ends with its
    parent."""
    with os.fdopen(os.dup(0), "rb") as pipe:
        settings = Settings.model_validate_json(pipe.readline())
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=LOG_FORMAT)
    # The parent holds the other end for as long as it lives: a killed parent leaves no orphans.
    threading.Thread(target=follow_parent, daemon=True).start()
    return settings


def ready() -> None:
    """Tell the parent."""
    print("ready", flush=True)


def stop_asked() -> threading.Event:
    """Set by SIGTERM and Ctrl-C, for a process that has something to end."""
    stopped = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopped.set())
    return stopped


def follow_parent() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
