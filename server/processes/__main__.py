"""A process of a server, as its supervisor starts it: `python -m deltaserve.server.processes ROLE FD`."""

import signal
import socket
import sys
from collections.abc import Callable

from deltaserve.server.processes.handover import Handover, Parent, exit_on_defect


def main() -> int:
    role, descriptor = sys.argv[1], int(sys.argv[2])
    parent = Parent(socket.socket(fileno=descriptor))
    handover = parent.handover()
    parent.watch(handover.folder)
    return exit_on_defect(parent, lambda: _work(role)(handover, parent))


def _work(role: str) -> Callable[[Handover, Parent], int]:
    if role == "engine":
        from deltaserve.server.processes.engine.process import run

        return run
    from deltaserve.server.processes.frontend.process import run as run_front_end

    return run_front_end


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the parent's to hear
    sys.exit(main())
