"""A supervisor whose processes do next to nothing: `python -m tests.support.supervised FOLDER`.

Each writes its role and pid into FOLDER, whose other files say how they behave.
"""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from deltaserve.errors import BadCheckpoint, DeltaserveError
from deltaserve.server.processes.handover import Handover, Parent, exit_on_defect


class Log:
    """Lines of JSON on stdout."""

    def error(self, event: str, **about: Any) -> None:
        print(json.dumps({"event": event, **about}), flush=True)


def supervise(folder: Path, **settings: Any) -> int:
    from deltaserve.server.processes.supervisor import Supervisor  # its processes need not read it
    from deltaserve.server.settings import Settings

    os.environ["SUPERVISED"] = str(folder)
    with socket.socket() as public:
        public.bind(("127.0.0.1", 0))
        given = Settings(**{"drain_timeout_s": 1, "keys_file": folder / "keys.toml", **settings})
        try:
            return Supervisor(given, 2, [public], [], Log(), "tests.support.supervised").run()
        except DeltaserveError as error:
            print(json.dumps({"raised": error.message}), flush=True)
            return 4


def play(role: str, handover: Handover, parent: Parent) -> int:
    """One of the processes. What the folder holds says how it behaves."""
    folder = Path(os.environ["SUPERVISED"])
    if role == "engine" and (folder / "bad-offset").exists():
        raise BadCheckpoint("The offset is bad.")
    if role == "engine" and (folder / "defect").exists():
        raise RuntimeError("a defect")
    told = [0]
    deaf = role == "frontend" and (folder / "deaf").exists()
    signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    while (folder / "held").exists():
        (folder / f"held-{role}-{os.getpid()}").touch()
        time.sleep(0.01)
    signal.signal(signal.SIGHUP, lambda *_: (folder / f"again-{role}-{os.getpid()}").touch())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    parent.started()
    (folder / f"{role}-{os.getpid()}").write_text(f"{handover.began_ns} {handover.pushes}")
    while len(told) == 1 or deaf:
        time.sleep(0.01)
    (folder / f"ended-{role}-{os.getpid()}").touch()
    return 0


def main() -> int:
    if len(sys.argv) == 2:
        return supervise(Path(sys.argv[1]))
    parent = Parent(socket.socket(fileno=int(sys.argv[2])))
    handover = parent.handover()
    parent.watch(handover.folder)
    (Path(os.environ["SUPERVISED"]) / "private").write_text(str(handover.folder))
    return exit_on_defect(parent, lambda: play(sys.argv[1], handover, parent))


if __name__ == "__main__":
    sys.exit(main())
