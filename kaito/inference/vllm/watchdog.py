"""Runs a command that ends when whoever started it ends: python watchdog.py COMMAND ARGUMENT...

vLLM is several processes, and whoever dies by SIGKILL cannot end them. This small one stands between:

- SIGTERM is passed on to the command;
- the end of standard input (its other end is closed, or its holder is gone) kills the command's process group;
- the command's end kills what is left of its group; its exit status becomes ours (128 + N for a signal).

It knows the standard library only, since it runs by its path, before anything is imported.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading

_PR_SET_PDEATHSIG = 1


def main(command: list[str]) -> int:
    """Runs it to its end and returns its exit status."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0, preexec_fn=_die_with_parent) as child:

        def kill_group() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)

        def follow_parent() -> None:
            while os.read(0, 1):
                pass
            kill_group()

        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        threading.Thread(target=follow_parent, daemon=True).start()
        code = child.wait()
        kill_group()
    return code if code >= 0 else 128 - code


def _die_with_parent() -> None:
    # For the death of the watchdog itself. No other thread runs yet, so code between fork and exec is safe.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.stdout.flush()
    status = main(sys.argv[1:])
    # The thread that follows the parent still reads.
    os._exit(status)
