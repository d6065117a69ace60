import pytest
import torch
import torch.nn.functional as F

from paribus.models.loss import CHUNK, summed_loss, token_losses


@pytest.mark.parametrize("tokens", [1, 37, CHUNK, CHUNK + 5])
def test_the_fused_loss_and_its_gradients_equal_torchs_cross_entropy(tokens: int) -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(tokens, 16, generator=generator).requires_grad_()
    weight = torch.randn(50, 16, generator=generator).requires_grad_()
    labels = torch.randint(-1, 50, (tokens,), generator=generator)
    weights = torch.where(labels >= 0, torch.rand(tokens, generator=generator) + 0.5, 0.0)
    total, each = summed_loss(states, weight, None, labels, weights)
    ours = torch.autograd.grad(total * 0.7, (states, weight))
    reference = F.cross_entropy(states @ weight.T, labels, ignore_index=-1, reduction="none") * weights
    theirs = torch.autograd.grad(reference.sum() * 0.7, (states, weight))
    torch.testing.assert_close(each, reference)
    torch.testing.assert_close(total, reference.sum())
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_token_losses_equal_torchs_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    states, weight = torch.randn(CHUNK + 9, 16, generator=generator), torch.randn(50, 16, generator=generator)
    labels = torch.randint(-1, 50, (CHUNK + 9,), generator=generator)
    reference = F.cross_entropy(states @ weight.T, labels, ignore_index=-1, reduction="none")
    torch.testing.assert_close(token_losses(states, weight, None, labels)[0], reference)
    assert (token_losses(states, weight, None, labels)[0][labels < 0] == 0).all()
