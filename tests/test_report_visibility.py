"""The pictures of who sees whom: drawn from the predicates, without running any code that a directory names."""

from pathlib import Path
from typing import Any

import pytest
import torch

from paribus.models.visibility import square_mask
from paribus.own_code import Code
from paribus.records.reading import Arm
from paribus.report.visibility import VisibilityPicture, draw_visibility, own_squares, sides_of
from paribus.spec.model import Model


def picture(objective: str = "prefix_lm", squares: Any = None, name: str = "arm", **model: Any) -> VisibilityPicture:
    config = {"model": {"layers": 2, "width": 64, **model}, "objective": {"name": objective}}
    (drawn,) = draw_visibility([Arm(name, {}, config, None, {}, written=name, squares=squares)])
    return drawn


def test_one_square_for_each_distinct_mask_of_the_predicate() -> None:
    drawn = picture(input_attention="forward_backward_heads")
    mask = square_mask(Model(layers=2, width=64, input_attention="forward_backward_heads"), 0, 6, 4)
    assert len(drawn.patterns) == 2
    for head, pattern in ((0, drawn.patterns[0]), (1, drawn.patterns[1])):
        inputs = int(mask[head][:6, :6].sum())
        assert pattern.svg.count('class="input-input"') == inputs
        assert pattern.svg.count('class="target-input"') == 24
    assert drawn.patterns[0].where == "head 1, every layer"


def test_rules_per_layer_are_told_layer_by_layer() -> None:
    drawn = picture(input_attention=["bidirectional", "causal"])
    assert [pattern.where for pattern in drawn.patterns] == ["every head, layer 1", "every head, layer 2"]
    assert drawn.notes[0] == "Input attention: bidirectional in layer 1 and causal in layer 2."


def test_a_drawn_rule_is_one_draw() -> None:
    assert "Drawn anew for each sequence: shown is one draw." in picture(input_attention="permuted_triangle").notes
    assert not any("draw" in note for note in picture(input_attention="causal").notes)


@pytest.mark.parametrize("objective,inputs,targets,word", [("mlm", 8, 0, "No target side"), ("lm", 0, 6, "empty")])
def test_arms_with_one_side_have_squares_of_one_side(objective: str, inputs: int, targets: int, word: str) -> None:
    assert sides_of(objective) == (inputs, targets)
    drawn = picture(objective, input_attention="bidirectional")
    svg = drawn.patterns[0].svg
    assert svg.count('class="input-input"') == inputs**2
    assert svg.count('class="target-target"') == targets * (targets + 1) // 2
    assert ("target</text>" in svg) == bool(targets)
    assert ("input</text>" in svg) == bool(inputs)
    assert any(word in note for note in drawn.notes)


def test_a_long_window_is_shown_by_a_short_one() -> None:
    drawn = picture(input_attention="window", attention_window=64)
    assert drawn.patterns[0].svg.count('class="input-input"') == 1 + 2 + 3 * 4
    assert "The window has 64 positions; in the picture 3 stand for them." in drawn.notes


def test_linear_attention_is_named() -> None:
    notes = picture(mixer="linear", feature_map="relu").notes
    assert "Linear attention (feature map relu) under this visibility." in notes


def test_tied_cross_attention_is_said() -> None:
    notes = " ".join(picture(memory="cross_attention", cross_weights="tied", cross_position="restart").notes)
    assert "with the weights of its self-attention" in notes
    assert "Positions restart" in notes


def test_own_rules_are_drawn_from_the_record_and_their_code_is_never_run(tmp_path: Path) -> None:
    file = tmp_path / "my_rules.py"
    file.write_text("def own(at):\n    return (at.key <= at.query) & ((at.query - at.key) % 2 == 0) | (at.query > 5)\n")
    rule = f"{file}:own"
    model = Model(layers=2, width=64, input_attention=[rule, "causal"])
    squares = own_squares({"arm": (model, "prefix_lm"), "gpt": (Model(), "prefix_lm")}, Code(True))
    assert list(squares) == ["arm"]
    marker = tmp_path / "ran"
    file.write_text(f"open({str(marker)!r}, 'w').close()\n")  # what a report must not load
    recorded = tuple(tuple(map(tuple, layer)) for layer in squares["arm"])
    drawn = picture(squares=recorded, input_attention=[f"{rule}#0123456789abcdef", "causal"])
    assert drawn.notes[0] == "Input attention: my_rules.py:own in layer 1 and causal in layer 2."
    expected = torch.arange(6)[:, None] - torch.arange(6)
    assert drawn.patterns[0].svg.count('class="input-input"') == int(((expected >= 0) & (expected % 2 == 0)).sum())
    bare = picture(input_attention=[rule, "causal"])
    assert bare.patterns == ()
    assert any("recorded no picture" in note for note in bare.notes)
    assert not marker.exists()


def test_names_stay_text() -> None:
    svg = picture(name="</title><script>alert(1)</script>").patterns[0].svg
    assert "<script>" not in svg
    assert "&lt;script&gt;" in svg
