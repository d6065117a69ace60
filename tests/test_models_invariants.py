"""What must hold in every setting of the three switches: no leak, same start, empty input = GPT, cache = full pass."""

import pytest
import torch
from torch import Tensor

from paribus.models import visibility
from paribus.models.initialisation import common_init_hash, initial_names, initial_value, initialise
from paribus.models.transformer import Cache, Transformer
from paribus.models.visibility import sees_ahead, square_mask
from paribus.study.architecture import LOOK_BACK
from settings import GRID, VOCABULARY, interface, named, scrambled, small_model, start, tokens

every_setting = pytest.mark.parametrize("setting", GRID, ids=named)

INPUT, TARGET = 5, 6


def reach(arm: Transformer) -> tuple[Tensor, Tensor]:
    """Largest gradient of each target position's logits with respect to each input and target token's embedding.

    Returns (T, S) and (T, T).
    """
    source, target = tokens(1, INPUT), tokens(1, TARGET, seed=1)
    seen = {}

    def watch(module: torch.nn.Module, arguments: tuple[Tensor], output: Tensor) -> Tensor:
        output.retain_grad()
        seen[arguments[0].data_ptr()] = output
        return output

    handle = arm.embedding.register_forward_hook(watch)
    weights = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(2))
    rows = []
    for position in range(TARGET):
        seen.clear()
        (arm(source, target)[0, position] @ weights).backward()
        rows.append([seen[x.data_ptr()].grad.abs().amax(-1)[0] for x in (source, target)])
    handle.remove()
    return torch.stack([row[0] for row in rows]), torch.stack([row[1] for row in rows])


@every_setting
def test_no_target_position_sees_the_future_and_every_visible_token_counts(setting: dict[str, str]) -> None:
    to_input, to_target = reach(scrambled(small_model(**setting)))
    assert (to_target.triu(1) == 0).all()
    assert (to_target[torch.ones(TARGET, TARGET).tril() > 0] > 0).all()
    assert (to_input > 0).all()


@every_setting
def test_changing_the_future_changes_no_bit_of_the_past(setting: dict[str, str]) -> None:
    arm = scrambled(small_model(**setting))
    source, target = tokens(2, INPUT), tokens(2, TARGET, seed=1)
    before = arm(source, target)
    for position in range(1, TARGET):
        changed = target.clone()
        changed[:, position:] = (changed[:, position:] + 7) % VOCABULARY
        assert torch.equal(arm(source, changed)[:, :position], before[:, :position])


def test_the_leak_test_sees_a_mask_shifted_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(visibility.RULES, "causal", lambda at: at.key <= at.query + 1)
    _, to_target = reach(scrambled(small_model(input_attention="causal")))
    assert (to_target.triu(1) > 0).any()


@pytest.mark.parametrize("parameters", ["shared", "separate"])
@pytest.mark.parametrize(
    "rule", sorted(visibility.RULES.keys() - {"forward_backward_layers"})
)  # two layers, two directions
def test_input_positions_see_exactly_what_the_predicate_says(rule: str, parameters: str) -> None:
    """One layer, so that nothing is seen through another position: the gradient is the mask itself."""
    model = small_model(input_attention=rule, parameters=parameters, memory="final_layer", layers=1)
    arm = scrambled(model)
    embedded = arm.embedding(tokens(1, INPUT)).detach().requires_grad_()
    arm.embedding.forward = lambda _: embedded  # type: ignore[method-assign]
    states = arm.prefill(tokens(1, INPUT)).states
    assert states is not None
    visible = square_mask(model, 0, INPUT, 0).any(0) | torch.eye(
        INPUT, dtype=torch.bool
    )  # the residual stream sees itself
    for query in range(INPUT):
        (gradient,) = torch.autograd.grad(states[0, query].square().sum(), embedded, retain_graph=True)
        assert torch.equal(gradient[0].abs().amax(-1) > 0, visible[query])


@every_setting
def test_an_empty_input_is_gpt(setting: dict[str, str]) -> None:
    gpt, arm = start(small_model()), start(small_model(**setting))
    empty, target = tokens(2, 0), tokens(2, TARGET)
    assert torch.equal(arm(empty, target), gpt(empty, target))


@pytest.mark.parametrize("rule", sorted(visibility.RULES.keys() - {"strict_triangle", "strict_triangle_heads"}))
def test_an_input_of_one_token_is_gpt_when_merged_and_shared(rule: str) -> None:
    gpt, arm = start(small_model()), start(small_model(input_attention=rule))
    source, target = tokens(2, 1), tokens(2, TARGET, seed=1)
    assert torch.equal(arm(source, target), gpt(source, target))


@every_setting
def test_separate_stacks_give_the_shared_logits_at_step_0(setting: dict[str, str]) -> None:
    shared = start(small_model(**setting | {"parameters": "shared"}))
    separate = start(small_model(**setting | {"parameters": "separate"}))
    source, target = tokens(2, INPUT), tokens(2, TARGET, seed=1)
    assert torch.equal(shared(source, target), separate(source, target))


@every_setting
@pytest.mark.parametrize("chunks", [[1] * TARGET, [2, 1, 3], [TARGET]], ids=str)
def test_decoding_with_a_cache_equals_the_full_pass(setting: dict[str, str], chunks: list[int]) -> None:
    arm = scrambled(small_model(**setting, kv_heads=2))
    source, target = tokens(2, INPUT), tokens(2, TARGET, seed=1)
    full = arm(source, target)
    memory, cache = arm.prefill(source), Cache()
    steps = [arm.logits(arm.decode(piece, memory, cache)) for piece in target.split(chunks, dim=1)]
    assert (torch.cat(steps, 1) - full).abs().max() < 1e-5


@every_setting
def test_parameters_in_common_start_bit_identical_whatever_else_is_built(setting: dict[str, str]) -> None:
    gpt = start(small_model(), seed=4)
    arm = start(small_model(**setting, layers=5), seed=4)
    ours = dict(arm.named_parameters())
    for name, parameter in gpt.named_parameters():
        assert torch.equal(parameter, ours[name]), name


def test_a_start_depends_on_seed_name_and_shape_alone() -> None:
    value = initial_value(0, "layers.1.attention.query.weight", (24, 16), "fan_in")
    assert torch.equal(value, initial_value(0, "input_layers.1.attention.query.weight", (24, 16), "fan_in"))
    assert not torch.equal(value, initial_value(1, "layers.1.attention.query.weight", (24, 16), "fan_in"))
    assert not torch.equal(value, initial_value(0, "layers.2.attention.query.weight", (24, 16), "fan_in"))
    assert not torch.equal(
        value.flatten(), initial_value(0, "layers.1.attention.query.weight", (16, 24), "fan_in").flatten()
    )
    assert initial_value(0, "layers.1.attention.output.weight", (24, 16), "zero_residual").abs().max() == 0


def test_inits_have_the_scale_they_name() -> None:
    for init, name, expected in [
        ("fan_in", "layers.0.feed_forward.down.weight", 400**-0.5),
        ("normal_0.02", "layers.0.feed_forward.down.weight", 0.02),
        ("fan_in", "embedding.weight", 0.02),
    ]:
        assert initial_value(0, name, (300, 400), init).std().item() == pytest.approx(expected, rel=0.01)


def test_the_common_hash_is_of_the_values_that_training_starts_from() -> None:
    gpt, t5 = small_model(), small_model(parameters="separate", memory="cross_attention")
    common = initial_names(gpt, interface()).keys() & initial_names(t5, interface()).keys()
    assert set(common) == set(initial_names(gpt, interface()))
    first = common_init_hash(gpt, interface(), 0, common)
    assert first == common_init_hash(t5, interface(), 0, common)
    assert first != common_init_hash(gpt, interface(), 1, common)
    assert first != common_init_hash(small_model(init="normal_0.02"), interface(), 0, common)


@every_setting
def test_nothing_is_built_that_nothing_reads(setting: dict[str, str]) -> None:
    arm = scrambled(small_model(**setting))
    arm(tokens(2, INPUT), tokens(2, TARGET, seed=1)).square().sum().backward()
    unread = [name for name, parameter in arm.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert unread == []


@pytest.mark.parametrize("memory", ["every_layer", "final_layer", "cross_attention"])
@pytest.mark.parametrize("parameters", ["shared", "separate"])
def test_the_inputs_own_loss_sees_nothing_ahead_and_leaves_the_target_alone(parameters: str, memory: str) -> None:
    model = small_model(parameters=parameters, memory=memory)
    plain, arm = start(model), start(model, input_loss=True)
    source, target = tokens(2, INPUT), tokens(2, TARGET, seed=1)
    states, _ = arm.states(source, target)
    assert states is not None
    assert torch.equal(arm(source, target), plain(source, target))
    changed = source.clone()
    changed[:, 3:] = (changed[:, 3:] + 1) % VOCABULARY
    assert torch.equal(arm.states(changed, target)[0][:, :3], states[:, :3])  # type: ignore[index]


def test_which_rules_see_ahead() -> None:
    assert {rule for rule in visibility.RULES if not sees_ahead(small_model(input_attention=rule))} == set(LOOK_BACK)


def test_the_model_is_initialised_in_place_on_any_dtype_of_compute() -> None:
    arm = Transformer(small_model(), interface())
    initialise(arm, 0, "fan_in")
    exact = arm(tokens(1, 3), tokens(1, 4))
    arm.compute_in(torch.bfloat16)
    rough = arm(tokens(1, 3), tokens(1, 4))
    assert 0 < (exact - rough).abs().max() < 0.2
