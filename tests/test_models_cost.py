"""Counts against brute force: what was multiplied, and which pairs the masks allow."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from paribus.models.cost import forward_flops, parameter_counts, training_flops
from paribus.models.visibility import square_mask
from settings import GRID, VOCABULARY, interface, named, scrambled, small_model, tokens


class CountProducts(TorchDispatchMode):
    """Adds up 2nkm of every matrix product that is dispatched; attention's (4-D) apart from the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = self.attention = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = function(*args, **(kwargs or {}))
        if function in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            a, b = args[-2:]
            self.linear += 2 * a.shape[0] * a.shape[1] * b.shape[1]
        elif function is torch.ops.aten.bmm.default:
            a, b = args
            self.attention += 2 * a.shape[0] * a.shape[1] * a.shape[2] * b.shape[2]
        return out


@pytest.mark.parametrize("setting", GRID, ids=named)
@pytest.mark.parametrize("lengths", [(5, 6), (0, 4), (1, 7)], ids=str)
def test_flops_equal_those_of_every_product_dispatched(setting: dict[str, str], lengths: tuple[int, int]) -> None:
    model = small_model(**setting, kv_heads=2)
    s, t = lengths
    arm = scrambled(model)
    with CountProducts() as counted, torch.no_grad():
        arm(tokens(1, s), tokens(1, t, seed=1))
    dense = 0  # what attention runs, the mask's dark half included
    allowed = 0
    for layer in range(model.layers):
        mask = square_mask(model, layer, s, t)
        regions = [mask[:, s:, :s], mask[:, s:, s:]]
        if not (model.memory == "every_layer" and layer == model.layers - 1):
            regions.append(mask[:, :s, :s])
        dense += sum(region.numel() for region in regions)
        allowed += sum(sum(map(int, region.flatten())) for region in regions)
    per_pair = 2 * 2 * model.head_size
    assert counted.attention == dense * per_pair
    assert forward_flops(model, interface(), s, t) == counted.linear + allowed * per_pair


@pytest.mark.parametrize("memory", ["every_layer", "final_layer", "cross_attention"])
@pytest.mark.parametrize("parameters", ["shared", "separate"])
def test_the_inputs_own_loss_costs_its_last_layer_and_its_logits(parameters: str, memory: str) -> None:
    model = small_model(parameters=parameters, memory=memory)
    arm = scrambled(model, input_loss=True)
    with CountProducts() as counted, torch.no_grad():
        for states in arm.states(tokens(1, 5), tokens(1, 6, seed=1)):
            assert states is not None
            arm.logits(states)
    masks = [square_mask(model, layer, 5, 6) for layer in range(model.layers)]
    pairs = sum(int(mask[:, :5, :5].sum() + mask[:, 5:].sum()) for mask in masks)
    assert forward_flops(model, interface(input_loss=True), 5, 6) == counted.linear + pairs * 4 * model.head_size
    assert training_flops(model, interface(input_loss=True), 5, 6) == 3 * forward_flops(
        model, interface(input_loss=True), 5, 6
    )


@pytest.mark.parametrize("setting", GRID, ids=named)
def test_parameters_equal_those_that_train(setting: dict[str, str]) -> None:
    model = small_model(**setting)
    arm = scrambled(model)
    arm(tokens(1, 5), tokens(1, 6)).square().sum().backward()
    trained = sum(parameter.numel() for parameter in arm.parameters() if parameter.grad is not None)
    total, without_embeddings = parameter_counts(model, interface())
    assert total == trained
    assert total - without_embeddings == 2 * VOCABULARY * model.width
