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
    role = sys.argv[1]
    with os.fdopen(os.dup(0), "rb") as pipe:
        settings = Settings.model_validate_json(pipe.readline())
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=LOG_FORMAT)
    stopped = threading.Event()
    # The parent holds the other end for as long as it lives: a killed parent leaves no orphans.
    threading.Thread(target=follow_parent, daemon=True).start()
    if role == "alone":
        run.serve(settings, lambda url: print(url, flush=True))
    elif role == "server":
        run.serve_on(settings, socket.socket(fileno=int(sys.argv[2])), lambda: print("ready", flush=True))
    else:
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
        signal.signal(signal.SIGINT, lambda *_: stopped.set())
        run.work(settings, lambda: not stopped.is_set(), lambda: print("ready", flush=True))


def follow_parent() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
