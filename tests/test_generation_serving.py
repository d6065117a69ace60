"""What is measured is what was counted."""

import sys
import time

import pytest
import torch

from paribus.costs.peak_memory import peak_growth
from paribus.costs.timing import Load, Server, counted, measure, positions_needed, prompt_for
from paribus.data.prompts import Prompt
from paribus.data.specials import Specials
from paribus.models.interface import Interface
from paribus.spec.objective import Objective
from products import CountProducts
from settings import VOCABULARY, scrambled, small_model

SPECIALS = Specials(VOCABULARY - 10, 10)
CPU = torch.device("cpu")
ARMS = [
    {},
    {"input_attention": "bidirectional"},
    {"memory": "cross_attention", "parameters": "separate", "prediction": "transformed"},
    {"mixer": "linear", "kv_heads": 2},
]


def server(objective: str, **fields: object) -> Server:
    outside = Interface(VOCABULARY, positions=64, input_loss=objective == "mlm", target=objective != "mlm")
    return Server(scrambled(small_model(**fields), outside=outside), Objective(name=objective), 0, SPECIALS)  # type: ignore[arg-type]


def asked(objective: str, length: int) -> Prompt:
    return prompt_for(Objective(name=objective), length, 0, SPECIALS)  # type: ignore[arg-type]


@pytest.mark.parametrize("fields", ARMS, ids=str)
@pytest.mark.parametrize("objective", ["lm", "prefix_lm", "pairs", "span_corruption", "ul2"])
def test_an_arm_is_served_by_the_products_that_were_counted(objective: str, fields: dict[str, object]) -> None:
    arm = server(objective, **fields)
    with CountProducts() as products:
        first, further = arm.serve(Load(1, 7, 5))
    cost = counted(arm.model.model, arm.model.interface, asked(objective, 7), 5)
    assert products.flops == cost["generation_flops"]["executed"]
    assert first > 0
    assert further is not None


@pytest.mark.parametrize("rule", ["bidirectional", "random_half_heads"])
def test_an_arm_without_a_target_fills_a_mask_in_one_pass(rule: str) -> None:
    arm = server("mlm", input_attention=rule)
    with CountProducts() as products:
        _, further = arm.serve(Load(1, 7, 5))
    cost = counted(arm.model.model, arm.model.interface, asked("mlm", 7), 5)
    assert products.flops == cost["prefill_flops"]["executed"]
    assert further is None
    assert cost["decode_flops"] is None
    assert cost["kv_bytes"] == {}


def test_a_prompt_is_read_whole_whatever_the_objective() -> None:
    special = {"lm": 0, "prefix_lm": 0, "pairs": 1, "mlm": 0, "span_corruption": 3, "ul2": 4}
    for objective, more in special.items():
        prompt = asked(objective, 9)
        assert len(prompt.input) + len(prompt.given) == 9 + more


@pytest.mark.parametrize("restart", [False, True])
def test_positions_are_those_that_a_learned_table_must_have(restart: bool) -> None:
    fields = {"position": "learned", "memory": "cross_attention"} | ({"cross_position": "restart"} if restart else {})
    needed = positions_needed(small_model(**fields), asked("prefix_lm", 7), 5)
    server("prefix_lm", **fields, positions=needed).serve(Load(1, 7, 5))
    with pytest.raises(Exception, match="positions end at"):
        server("prefix_lm", **fields, positions=needed - 1).serve(Load(1, 7, 5))


def test_arms_are_measured_in_turn_and_medians_lie_within_their_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    serve = Server.serve
    arms = {name: server("prefix_lm", input_attention=name) for name in ("causal", "bidirectional")}

    def noted(self: Server, load: Load) -> tuple[float, float | None]:
        order.append(str(self.model.model.input_attention))
        return serve(self, load)

    monkeypatch.setattr(Server, "serve", noted)
    served = measure(arms, Load(2, 6, 4), repeats=3)
    assert order[4:] == ["causal", "bidirectional", "bidirectional", "causal", "causal", "bidirectional"]
    for each in served.values():
        assert each.token is not None
        assert each.prefill.repeats == 3
        assert 0 < each.token.low <= each.token.median <= each.token.high
        assert each.tokens_per_second == 2 / each.token.median


def test_a_slow_load_is_repeated_twice_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paribus.costs.timing.ENOUGH_SECONDS", 0.0)
    served = measure({"gpt": server("prefix_lm")}, Load(1, 6, 2), repeats=9)
    assert served["gpt"].prefill.repeats == 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a stretch of work")
def test_peak_memory_is_that_of_the_work_alone() -> None:
    size = 64 << 20
    held = torch.ones(size // 4)
    assert held.sum() > 0

    def work() -> None:
        torch.ones(size // 4).sum()
        time.sleep(0)

    for _ in range(2):  # what the first leaves behind does not hide the second's
        growth = peak_growth(work, CPU)
        assert growth is not None
        assert 0.95 * size < growth < 1.2 * size
    nothing = peak_growth(lambda: None, CPU)
    assert nothing is not None
    assert nothing < size // 8
