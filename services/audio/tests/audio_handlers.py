"""Handlers that worker processes load in tests."""

import os
import signal
import time


def obedient():
    """Does what the request says."""

    def handle(request):
        match request["do"]:
            case "echo":
                return {"said": request["what"], "pid": os.getpid()}
            case "environment":
                return {"names": sorted(os.environ)}
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                os._exit(3)
            case "hang":
                time.sleep(60)
            case "print":
                print("this must not reach the pipe")
                return {}
            case "raise":
                raise RuntimeError("told to")
        return {}

    return handle


def never_ready():
    raise RuntimeError("no model")
