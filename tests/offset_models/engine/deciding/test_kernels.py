"""The Triton kernel against plain torch: on a GPU, or in Triton's interpreter (TRITON_INTERPRET=1 from the start)."""

import math
import os

import numpy as np
import pytest
import torch

pytest.importorskip("triton", reason="the kernel needs triton, which comes with torch for GPUs")
if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("the kernel needs a GPU, or TRITON_INTERPRET=1", allow_module_level=True)

from deltaserve.offset_models.engine.deciding import looking

pytestmark = pytest.mark.filterwarnings(
    "ignore::RuntimeWarning"
)  # of the interpreter, in numbers that are cut off later
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ROWS, WIDTH, LISTED = 6, 5_000, 5


def rows(rng: np.random.Generator) -> looking.Rows:
    base = torch.tensor(rng.normal(0, rng.choice([0.1, 1, 4]), (ROWS, WIDTH)), dtype=torch.float32)
    offset = torch.tensor(rng.normal(0, rng.choice([0.1, 2]), (ROWS, WIDTH)), dtype=torch.float32)
    base[:, -9:], offset[:, -9:] = -math.inf, 0.0  # ids that no tokenizer has
    return looking.Rows(base.log_softmax(-1).to(DEVICE), offset.to(DEVICE))


def placed(rng: np.random.Generator) -> looking.Placed:
    """The first question is blind, the second leaves no mass out, the third is truncated."""
    ids = torch.tensor(np.stack([rng.choice(WIDTH, LISTED, replace=False) for _ in range(ROWS)]))
    told = torch.ones(ROWS, LISTED, dtype=torch.bool)
    told[0] = False
    lists = np.sort(np.log(rng.dirichlet(np.full(LISTED + 1, 0.4), ROWS)), axis=1)[:, ::-1]
    mass, cap = np.exp(lists[:, -1]), lists[:, -2].copy()
    mass[0], cap[0], mass[1] = 1.0, math.inf, 0.0
    lowered = looking._lowered(cap)
    truncated = np.arange(ROWS) == 2
    scalars = torch.tensor(np.stack([mass, cap, lowered, rng.choice([1.0, 0.7], ROWS), truncated], 1))
    everything = torch.ones_like(told)
    return looking.Placed(*(one.to(DEVICE) for one in (ids, told, everything, scalars)))


@pytest.mark.parametrize("seed", range(4))
def test_the_kernel_finds_what_torch_finds(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    own, where = rows(rng), placed(rng)
    if seed == 3:
        own.base[4, 7] = math.nan
    found = {}
    for kernel in (False, True):
        monkeypatch.setattr(looking, "_has_kernel", lambda _, kernel=kernel: kernel)
        table, _ = looking.full_view(own, where, unlike_one=True, top=0)
        found[kernel] = table.cpu().numpy(), looking.certificate_view(own, where).cpu().numpy()
    for plain, fast in zip(found[False], found[True], strict=True):
        sane = np.arange(ROWS) != 4 if seed == 3 else np.ones(ROWS, np.bool_)
        np.testing.assert_allclose(fast[sane], plain[sane], atol=3e-5, rtol=1e-6)
    assert bool(found[True][1][4, -1]) is (seed != 3)
