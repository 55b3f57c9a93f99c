"""What the data plane does on one GPU: forwards, rows a second, equality with a CPU, a whole server, training.

python -m benchmarks.gpu                          every part; under six minutes on one H100 or H200
python -m benchmarks.gpu --parts rows,serving     some of them
python -m benchmarks.gpu --device cpu             tiny shapes: the same code, no figures worth keeping

Weights are random and made on the spot, of the shape of Qwen2.5-0.5B with an adapter. The black box is the demo's, on
the CPU, slowed down to 25 ms a token. Without a GPU it says so and ends. A part that fails does not stop the others;
the exit status is then 1.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import structlog
import torch
from transformers.utils.logging import disable_progress_bar

from benchmarks.gpu.equality import answers, logprobs
from benchmarks.gpu.forwards import forwards
from benchmarks.gpu.record import Record
from benchmarks.gpu.rows import rows
from benchmarks.gpu.serving import serving
from benchmarks.gpu.setup import Setup, card
from benchmarks.gpu.training import step_time, training

THREADS: Final = 4  # of the CPU that the device is compared with: more only get into each other's way
PARTS: Final[dict[str, Callable[[Setup, Record], None]]] = {
    "forwards": forwards,
    "rows": rows,
    "logprobs": logprobs,
    "answers": answers,
    "serving": serving,
    "step_time": step_time,
    "training": training,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS), metavar=",".join(PARTS))
    parser.add_argument(
        "--every-layer",
        action="store_true",
        help="the adapter is on all linear layers, rank 16, as training makes it; else on q_proj and v_proj, rank 8",
    )
    args = parser.parse_args()
    if unknown := [part for part in args.parts if part not in PARTS]:
        parser.error(f"There is no part {unknown[0]}; there are: {', '.join(PARTS)}.")
    if args.device == "cuda" and not torch.cuda.is_available():
        print("There is no GPU here that torch can use: nothing is measured. --device cpu tries the code.")
        return 0
    disable_progress_bar()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    torch.set_num_threads(1 if args.device == "cpu" else THREADS)
    record = Record({"card": card(args.device), "device": args.device, "every_layer": args.every_layer})
    record.row("start", card=card(args.device), torch=torch.__version__)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as processes:
        setup = Setup(args.device, Path(folder), processes, args.every_layer)
        record.attempt("weights", lambda: print(setup.root, file=sys.stderr))
        for name in args.parts:
            record.attempt(name, lambda part=PARTS[name]: part(setup, record))  # type: ignore[misc]
    record.show()
    return 1 if record.failed else 0


if __name__ == "__main__":
    sys.exit(main())
