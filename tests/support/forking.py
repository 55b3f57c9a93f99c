"""The process that `nursery` starts: it imports, and then forks for each program that it is told of.

Between it and a program is a keeper, a process that says the program's id and exit status to whoever wanted it.
"""

import gc
import json
import os
import resource
import runpy
import select
import signal
import socket
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

LONGEST = 1 << 17  # bytes of what is told of a program


def main(listener: int, modules: str, absent: str) -> None:
    for name in filter(None, absent.split(",")):
        sys.modules[name] = None  # type: ignore[assignment]  # importing it fails
    for name in modules.split(","):
        import_module(name)
    gc.freeze()  # what is shared stays shared
    program = forked(socket.socket(fileno=listener))
    if program is not None:
        become(**program)


def forked(listener: socket.socket) -> dict[str, Any] | None:
    """Returns in every child, with what it is to become; here, with None, once all who came have left."""
    lines: list[socket.socket] = []
    while True:
        for ready in select.select([listener, *lines], [], [])[0]:
            if ready is listener:
                lines.append(listener.accept()[0])
                continue
            told, streams, *_ = socket.recv_fds(ready, LONGEST, 3)
            reap()
            if not told:
                lines.remove(ready)
                ready.close()
            elif os.fork() == 0:
                for one in (listener, *lines):
                    one.close()
                keep(*streams)
                return dict(json.loads(told))
            for stream in streams:
                os.close(stream)
        if not lines and not select.select([listener], [], [], 0)[0]:
            return None


def reap() -> None:
    """Keepers that have done their work."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def keep(keeper: int, stdout: int, stderr: int) -> None:
    """Returns in the program, whose streams are as they should be; its keeper goes when it has ended."""
    program = os.fork()
    if program == 0:
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
    os.close(stdout)
    os.close(stderr)
    wanted = socket.socket(fileno=keeper)
    if program:
        wanted.send(str(program).encode())
        status = ended(program, wanted)
        with suppress(BrokenPipeError):  # nobody is there any more
            wanted.send(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    wanted.close()


def ended(program: int, wanted: socket.socket) -> int:
    """What waitpid says of the program, which is told to end when the test run that wanted it is gone."""
    awake, waking = os.pipe()
    os.set_blocking(waking, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waking)
    while True:
        pid, status = os.waitpid(program, os.WNOHANG)
        if pid:
            return status
        ready, _, _ = select.select([awake, wanted], [], [])
        if wanted in ready:
            os.kill(program, signal.SIGTERM)
            return os.waitpid(program, 0)[1]
        os.read(awake, 64)


def become(
    module: str, arguments: list[str], env: dict[str, str] | None, folder: str | None, largest_file: int | None
) -> None:
    """`python -m module arguments`; the streams of Python are those of its start."""
    if env is not None:
        os.environ.clear()
        os.environ.update(env)
    if folder is not None:
        os.chdir(folder)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
