"""FlexAttention computes what the dense mask says, over the blocks that somebody sees."""

import warnings

import hypothesis
import pytest
import torch
from tests.settings import Case, cases, over_the_grid
from torch import Tensor

from paribus.models.transformer import Transformer


@pytest.fixture(autouse=True)
def _eager_flex_is_slow_and_says_so() -> None:
    warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")


@torch.no_grad()
def computed(arm: Transformer, case: Case, backend: str) -> list[Tensor]:
    arm.attend_with(backend)
    return [states for states in arm.states(*case.batch) if states is not None]


@over_the_grid()
@hypothesis.given(cases(mixer="softmax"))
def test_both_back_ends_compute_the_same(case: Case) -> None:
    arm = case.arm()
    for dense, flex in zip(computed(arm, case, "dense"), computed(arm, case, "flex"), strict=True):
        torch.testing.assert_close(flex, dense, rtol=1e-5, atol=1e-5)
