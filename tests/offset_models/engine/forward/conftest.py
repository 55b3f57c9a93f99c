"""Forward passes of tiny models: more threads than one only wait for each other."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
