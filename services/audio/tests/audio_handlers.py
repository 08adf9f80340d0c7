"""Handlers that worker processes load in tests."""

import os
import signal
import threading
import time
from pathlib import Path


def obedient():
    """Does what the request says."""
    both = threading.Barrier(2)

    def handle(request):
        match request["do"]:
            case "echo":
                return {"said": request["what"], "pid": os.getpid()}
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                os._exit(3)
            case "hang":
                time.sleep(60)
            case "meet":
                both.wait(20)
            case "wait":
                Path(request["begun"]).touch()
                while not Path(request["until"]).exists():
                    time.sleep(0.005)
                return {"pid": os.getpid()}
            case "print":
                print("this must not reach the pipe")
                return {}
            case "raise":
                raise RuntimeError("told to")
        return {}

    return handle


def told(**settings):
    """Answers with the settings that it was made with."""
    return lambda request: settings


def never_ready():
    raise RuntimeError("no model")
