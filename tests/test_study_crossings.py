"""Crossings: written as levels, found in arms, complete parts and missing cells, claims about their effects."""

import json
import re
from collections.abc import Iterator
from itertools import chain, combinations, product
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paribus import spec
from paribus.errors import StudyError
from paribus.plan.building import build_plan
from paribus.plan.designs import designs
from paribus.plan.factorial import Design, Factor, design, lacks, summary
from paribus.plan.reading import load_study, study_from
from paribus.records.plan import Plan
from paribus.spec.crossed import crossed
from paribus.spec.levels import level_words
from paribus.spec.schema import study_schema

MASKS, POSITIONS = ["causal", "bidirectional"], ["rope", "none"]
FULL: dict[str, Any] = {"question": "Does it?", "vary": {"model.input_attention": MASKS, "model.position": POSITIONS}}
EFFECT = {"says": "It does", "expect": "better", "margin": 0.1}


def of(study: spec.Study) -> Design | None:
    plan = build_plan(study)
    found = designs(plan, study.vary)
    return found[0][1] if found else None


def refusal(**changed: Any) -> str:
    with pytest.raises(StudyError) as refused:
        study_from({**FULL, **changed})
    assert "\n" not in str(refused.value)
    return str(refused.value)


# Written as levels.


def test_levels_make_the_arms_of_the_full_crossing_in_order() -> None:
    study = study_from(FULL)
    assert study.vary == ["model.input_attention", "model.position"]
    assert study.arm == {
        f"{mask} + {position}": {"model": {"input_attention": mask, "position": position}}
        for mask, position in product(MASKS, POSITIONS)
    }
    assert list(study.arm) == ["causal + rope", "causal + none", "bidirectional + rope", "bidirectional + none"]


def test_a_crossing_is_the_study_with_the_same_arms_written_out() -> None:
    study = study_from(FULL)
    again = study_from({**FULL, "vary": study.vary, "arm": study.arm})
    assert again == study
    assert spec.Study.model_validate(json.loads(study.model_dump_json())) == study
    assert build_plan(again).to_dict() == build_plan(study).to_dict()


def test_levels_may_stand_below_their_section_and_reach_files_and_overrides(tmp_path: Path) -> None:
    (tmp_path / "parent.toml").write_text(
        'question = "q"\n[vary]\nmodel.input_attention = ["causal", "bidirectional"]\nmodel.layers = [2, 4]\n'
    )
    (tmp_path / "child.toml").write_text('extends = "parent.toml"\n[vary]\nmodel.position = ["rope", "none"]\n')
    assert len(load_study(tmp_path / "parent.toml").arm) == 4
    assert len(load_study(tmp_path / "child.toml").arm) == 8
    assert list(load_study(tmp_path / "parent.toml", ["vary.model.layers=[1, 2, 3]"]).arm)[:3] == [
        "causal + layers 1",
        "causal + layers 2",
        "causal + layers 3",
    ]


def test_own_rules_are_levels_named_by_their_function(tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text("def mine(query, key):\n    return key <= query\n")
    (tmp_path / "s.toml").write_text(
        'question = "q"\nleave_out = [{"model.input_attention" = "rules.py:mine", "model.layers" = 2}]\n'
        '[vary]\nmodel.input_attention = ["causal", "rules.py:mine"]\nmodel.layers = [2, 4]\n'
    )
    study = load_study(tmp_path / "s.toml")
    assert list(study.arm) == ["causal + layers 2", "causal + layers 4", "rules.py:mine + layers 4"]
    assert "#" in study.arm["rules.py:mine + layers 4"]["model"]["input_attention"]


@pytest.mark.parametrize(
    "levels, words",
    [
        (
            {"model.position": ["none", "rope"], "model.mixer": ["none", "x"]},
            {"position none", "position rope", "mixer none"},
        ),
        ({"model.qk_norm": [False, True]}, {"qk_norm false", "qk_norm true"}),
        ({"training.learning_rate": [1e-3, 0.002]}, {"learning_rate 0.001", "learning_rate 0.002"}),
        ({"model.input_attention": ["causal", ["causal", "bidirectional"]]}, {"causal", "causal,bidirectional"}),
        ({"model.input_attention": ["a/r.py:f", "b/r.py:f"]}, {"input_attention #1", "input_attention #2"}),
        ({"model.input_attention": ["x" * 50, "causal"]}, {"input_attention #1", "causal"}),
        ({"objective.denoisers": [[{"rate": 0.1}], []]}, {'denoisers [{"rate": 0.1}]', "denoisers #2"}),
    ],
)
def test_levels_are_told_in_short_words(levels: dict[str, list[Any]], words: set[str]) -> None:
    assert words <= set(chain(*level_words(levels).values()))


values = st.text("ab", max_size=3) | st.integers(0, 3) | st.lists(st.text("ab", min_size=1), max_size=2)


@given(
    st.dictionaries(
        st.sampled_from(["model.position", "model.mixer", "model.layers", "model.norm"]),
        st.lists(values, min_size=1, max_size=4),
        min_size=1,
    )
)
def test_no_two_cells_have_one_name(levels: dict[str, list[Any]]) -> None:
    told = level_words(levels)
    words = list(chain(*told.values()))
    assert all(len(words) == len(levels[field]) for field, words in told.items())
    assert len(set(words)) == len(words)
    assert all(word.strip() == word for word in words)


def test_cells_are_left_out_by_any_of_their_levels() -> None:
    levels = {**FULL["vary"], "model.layers": [2, 4]}
    left = study_from({**FULL, "vary": levels, "leave_out": [{"model.position": "none", "model.layers": 2}]})
    assert [name for name in study_from({**FULL, "vary": levels}).arm if name not in left.arm] == [
        "causal + none + layers 2",
        "bidirectional + none + layers 2",
    ]


def test_what_is_wrong_with_a_crossing_is_told_in_one_line() -> None:
    assert "arm.x: the levels in vary make the arms" in refusal(arm={"x": {}})
    assert "two levels or more" in refusal(vary={"model.layers": [2]})
    assert "should be a list of the field's levels" in refusal(vary={"model.layers": 2})
    assert "2 is there twice" in refusal(vary={"model.layers": [2, 2]})
    assert "should name fields and their levels" in refusal(vary={})
    assert "at most 256" in refusal(vary={"model.layers": list(range(1, 30)), "model.heads": list(range(1, 30))})
    assert 'vary."model.layers".0 = "four": should be a whole number' in refusal(vary={"model.layers": ["four", 2]})
    assert 'did you mean "model.layers"?' in refusal(vary={"model.layrs": [2, 4]})
    assert "read the same text" in refusal(vary={"data.window": [64, 128]})
    assert "no such cell; did you mean" in refusal(
        claim=[{"says": "s", "arm": "causal+rope", "against": "causal + none", "expect": "better", "margin": 1}]
    )


def test_a_cell_that_cannot_be_is_named_and_can_be_left_out() -> None:
    levels = {"model.memory": ["every_layer", "cross_attention"], "objective.name": ["prefix_lm", "mlm"]}
    told = refusal(vary=levels)
    assert 'the cell "cross_attention + mlm" cannot be: model.memory = "cross_attention"' in told
    entry = {"model.memory": "cross_attention", "objective.name": "mlm"}
    assert 'leave_out = [{"model.memory" = "cross_attention", "objective.name" = "mlm"}]' in told
    assert len(study_from({**FULL, "vary": levels, "leave_out": [entry]}).arm) == 3


def test_what_is_wrong_with_what_is_left_out_is_told() -> None:
    assert "write vary as a table" in refusal(vary=["model.position"], arm={"a": {}}, leave_out=[])
    assert 'vary does not cross it; did you mean "model.position"?' in refusal(leave_out=[{"model.posiion": "none"}])
    assert 'no level of it; they are "rope", "none"' in refusal(leave_out=[{"model.position": "non"}])
    assert "take it out of vary instead" in refusal(leave_out=[{"model.position": "none"}])
    assert "should be a table of fields and levels" in refusal(leave_out=[3])
    assert "should be a list of cells" in refusal(leave_out=3)


def test_a_list_of_fields_is_left_as_it_is() -> None:
    tables = {"vary": ["model.layers"], "arm": {"a": {}}, "question": "q"}
    assert crossed(tables).tables == tables


def test_the_study_of_the_page_on_factorials_works_as_it_stands(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "factorials.md").read_text(encoding="utf-8")
    (toml,) = re.findall(r"```toml\n(.*?)```", page, re.S)
    (tmp_path / "page.toml").write_text(toml, encoding="utf-8")
    plan = build_plan(load_study(tmp_path / "page.toml"))
    assert [effect.kind for effect in plan.effects] == ["interaction"]
    assert "bidirectional + rope" in [arm.name for arm in plan.arms]


def test_the_schema_knows_levels_cells_and_effects() -> None:
    validator = jsonschema.Draft202012Validator(study_schema())
    assert validator.is_valid(
        {**FULL, "leave_out": [{"model.position": "none"}], "effect": [EFFECT | {"of": "model.position"}]}
    )
    assert validator.is_valid({"question": "q", "vary": {"model": {"layers": [2, 4], "position": POSITIONS}}})
    for wrong in (
        {**FULL, "arm": {"x": {}}},
        {"question": "q", "vary": {"model.layrs": [2, 4]}},
        {"question": "q", "vary": {"model.layers": [2]}},
        {"question": "q", "vary": ["model.layers"]},
        {**FULL, "effect": [EFFECT]},
    ):
        assert not validator.is_valid(wrong)


# Found in arms.


def test_the_ready_study_is_an_incomplete_crossing_with_one_complete_part() -> None:
    found = of(load_study("decoder-only"))
    assert found is not None
    assert [factor.levels for factor in found.factors] == [
        ("causal", "bidirectional", "forward_backward_heads"),
        ("shared", "separate"),
        ("every_layer", "cross_attention"),
    ]
    (part,) = found.parts
    assert [found.arms[cell] for cell in part.cells] == ["gpt", "unshared_causal", "unilm", "unshared"]
    assert "causal + separate + cross_attention" in [found.words(cell) for cell in found.missing()]
    assert "6 of 12 cells" in next(lacks(found))
    assert list(summary(found))[-1] == "Complete in it: causal, bidirectional x shared, separate, with every_layer."


def test_factors_that_always_change_together_are_one() -> None:
    arms = {"a": {"model.layers": 2, "model.position": "rope"}, "b": {"model.layers": 4, "model.position": "none"}}
    found = of(study_from({"question": "q", "vary": ["model.layers", "model.position"], "arm": arms}))
    assert found is not None
    assert [factor.fields for factor in found.factors] == [("model.layers", "model.position")]
    assert found.parts == ()
    assert list(lacks(found)) == [
        "model.layers and model.position change together in all arms: their effects cannot be told apart."
    ]


def test_one_factor_at_a_time_crosses_nothing() -> None:
    arms = {"base": {}, "deep": {"model.layers": 2}, "bare": {"model.position": "none"}}
    found = of(study_from({"question": "q", "vary": ["model.layers", "model.position"], "arm": arms}))
    assert found is not None
    assert found.parts == ()
    assert "No two factors are crossed completely anywhere" in list(lacks(found))[-1]
    assert (
        of(study_from({"question": "q", "vary": ["model.layers"], "arm": {"a": {}, "b": {"model.layers": 2}}})) is None
    )


def test_a_field_that_only_follows_another_is_no_factor() -> None:
    widths = {"model.width": [64, 128], "model.position": POSITIONS}
    found = of(study_from({"question": "q", "vary": widths}))
    assert found is not None
    assert [factor.name for factor in found.factors] == ["model.width", "model.position"]
    assert not found.missing()


def test_arms_that_are_equal_in_every_factor_share_a_cell() -> None:
    arms = [("a", spec.Config()), ("again", spec.Config())]
    assert design(arms, ["model.layers", "model.position"]) is None


def test_repetitions_are_no_cells_and_each_size_has_its_own() -> None:
    claim = {"says": "s", "arm": "bidirectional + rope", "against": "causal + rope", "expect": "better", "margin": 1}
    study = study_from({**FULL, "claim": [claim | {"repeat_under": {"model.init": ["normal_0.02"]}}]})
    plan = build_plan(study)
    ((under, found),) = designs(plan, study.vary)
    assert not under
    assert sorted(found.arms.values()) == sorted(study.arm)
    assert len(plan.arms) == 6


def grid(cells: set[tuple[int, ...]], sizes: list[int]) -> Design:
    factors = tuple(Factor((f"f{n}",), tuple(map(str, range(size)))) for n, size in enumerate(sizes))
    return Design(factors, {cell: str(cell) for cell in sorted(cells)})


def every_complete_crossing(cells: set[tuple[int, ...]], sizes: list[int]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """By trying all products of level sets."""
    subsets = [
        [subset for count in range(1, size + 1) for subset in combinations(range(size), count)] for size in sizes
    ]
    for levels in product(*subsets):
        if set(product(*levels)) <= cells:
            yield levels


@given(st.lists(st.integers(2, 4), min_size=2, max_size=3).flatmap(
    lambda sizes: st.tuples(
        st.just(sizes), st.sets(st.tuples(*(st.integers(0, size - 1) for size in sizes)), min_size=1, max_size=14)
    )
))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_the_complete_parts_are_the_largest_ones_that_trying_all_finds(
    drawn: tuple[list[int], set[tuple[int, ...]]],
) -> None:
    sizes, cells = drawn
    complete = [set(product(*levels)) for levels in every_complete_crossing(cells, sizes)]
    largest = {
        frozenset(each)
        for each in complete
        if not any(each < other for other in complete)
        and sum(len({cell[n] for cell in each}) > 1 for n in range(len(sizes))) > 1
    }
    found = grid(cells, sizes)
    assert {frozenset(part.cells) for part in found.parts} == largest
    assert {*found.arms, *found.missing()} == set(product(*map(range, sizes)))


# Claims about effects.


def planned(of: Any, tables: dict[str, Any] = FULL) -> list[Any]:
    plan = build_plan(study_from({**tables, "effect": [EFFECT | {"of": of}]}))
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))).effects == plan.effects
    return list(plan.effects)


def test_a_main_effect_is_the_second_level_against_the_first_averaged_over_the_others() -> None:
    for written in ("model.position", ["model.position"], {"model.position": ["none", "rope"]}):
        (effect,) = planned(written)
        assert (effect.kind, effect.levels, effect.against) == ("main", ["none"], ["rope"])
        assert effect.weights == {
            "causal + rope": -0.5,
            "causal + none": 0.5,
            "bidirectional + rope": -0.5,
            "bidirectional + none": 0.5,
        }
        assert effect.pairs == [["causal + none", "causal + rope"], ["bidirectional + none", "bidirectional + rope"]]


def test_an_interaction_is_a_difference_of_differences() -> None:
    (effect,) = planned({"model": {"input_attention": ["bidirectional", "causal"], "position": ["none", "rope"]}})
    assert effect.kind == "interaction"
    assert effect.weights == {
        "causal + rope": 1,
        "causal + none": -1,
        "bidirectional + rope": -1,
        "bidirectional + none": 1,
    }


def test_effects_are_told_within_a_complete_part_of_arms_that_were_written_out() -> None:
    tables = {key: value for key, value in load_study("decoder-only").model_dump().items() if key != "claim"}
    (effect,) = planned({"model.input_attention": ["bidirectional", "causal"]}, tables)
    assert effect.weights == {"gpt": -0.5, "unshared_causal": -0.5, "unilm": 0.5, "unshared": 0.5}


def test_effects_are_claimed_at_each_size() -> None:
    tables = {**FULL, "sizes": ["50k", "100k"], "model": {"layers": 2, "width": 64, "head_size": 16}}
    small, large = planned(["model.input_attention", "model.position"], tables)
    assert (str(small.condition), str(large.condition)) == ("size 50k", "size 100k")
    assert set(small.weights) == {f"{name} [size=50k]" for name in study_from(FULL).arm}
    study = study_from({**FULL, **tables})
    assert [str(condition) for condition, _ in designs(build_plan(study), study.vary)] == ["size 50k", "size 100k"]


def test_what_is_wrong_with_a_claim_about_an_effect_is_told_in_one_line() -> None:
    def told(of: Any, **more: Any) -> str:
        return refusal(effect=[EFFECT | {"of": of} | more])

    three = {"vary": {"model.input_attention": MASKS, "model.position": ["rope", "none", "alibi"]}}
    assert "has 3 levels; say which and against which" in refusal(**three, effect=[EFFECT | {"of": "model.position"}])
    assert 'did you mean "model.position"?' in told("model.posiion")
    assert "names a field twice" in told(["model.position", "model.position"])
    assert "one field for a main effect" in told([])
    assert "should be two of its levels" in told({"model.position": "none"})
    assert 'no arm has "t5_relative"' in told({"model.position": ["none", "t5_relative"]})
    assert "an effect has says, of" in told("model.position", arm="x")
    assert "no such quantity" in told("model.position", hold=["x"])
    assert "effect.0.margin = 0: should be above 0" in told("model.position", margin=0)
    assert "below a line [[effect]]" in refusal(effect=3)
    one = {"vary": ["model.position"], "arm": {"a": {}, "b": {"model": {"position": "none"}}}}
    assert "nothing is crossed" in refusal(**one, effect=[EFFECT | {"of": "model.position"}])
    missing = {**FULL, "leave_out": [{"model.input_attention": "causal", "model.position": "none"}]}
    with pytest.raises(StudyError, match="no arms cross bidirectional and causal, none and rope completely"):
        study_from({**missing, "effect": [EFFECT | {"of": ["model.input_attention", "model.position"]}]})
