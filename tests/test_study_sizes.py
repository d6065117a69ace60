"""Sizes: solved for on a reference arm to within 0.5 %, the base's shape kept, every claim judged at each."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpora import documents, write_folder
from paribus.cli.main import run_command
from paribus.costs.counting import parameter_counts
from paribus.costs.latency import measure_latency
from paribus.data.store import Corpus, prepare
from paribus.display.tables import checks
from paribus.errors import StudyError
from paribus.models.interface import interface_of
from paribus.models.transformer import Transformer
from paribus.plan.audit import audit
from paribus.plan.building import build_plan
from paribus.plan.matching import matched_plan
from paribus.plan.reading import study_from
from paribus.plan.sizes import STRETCH
from paribus.records.condition import Condition
from paribus.records.plan import Arm, Plan
from paribus.records.reading import read_study
from paribus.spec.holds import distance
from paribus.spec.study import Study
from paribus.verify.verification import verify

T5 = {"model": {"input_attention": "bidirectional", "parameters": "separate", "memory": "cross_attention"}}
CLAIM = {"says": "s", "arm": "t5", "against": "gpt", "expect": "better", "margin": 0.1}
TABLES: dict[str, Any] = {
    "question": "q",
    "vary": ["model.input_attention", "model.parameters", "model.memory"],
    "hold": ["seen_tokens", "loss_tokens"],
    "seeds": 2,
    "sizes": ["100k", "300k", "1M"],
    "data": {"window": 32},
    "model": {"layers": 4, "width": 64, "head_size": 16},
    "training": {"tokens": 4096, "batch": 4, "learning_rate": 4e-3},
    "arm": {"gpt": {}, "unilm": {"model": {"input_attention": "bidirectional"}}, "t5": T5},
    "claim": [CLAIM, CLAIM | {"arm": "unilm", "repeat_under": {"model.init": ["normal_0.02"]}}],
}


def planned(**changes: Any) -> Plan:
    return build_plan(study_from(TABLES | changes))


def parameters(arm: Arm) -> int:
    return parameter_counts(arm.config.model, interface_of(arm.config, 100))[1]


def sized(sizes: Any, **rules: Any) -> dict[str, Any]:
    return {"sizes": {"values": sizes, **rules}}


@settings(max_examples=25, deadline=None)
@given(
    knob=st.sampled_from(["width", "layers", "both"]),
    width=st.sampled_from([64, 96, 128]),
    layers=st.integers(2, 5),
    head_size=st.sampled_from([8, 16]),
    goals=st.lists(st.integers(200_000, 3_000_000), min_size=2, max_size=2, unique=True),
)
def test_the_reference_has_each_size_and_the_shape_of_the_base(
    knob: str, width: int, layers: int, head_size: int, goals: list[int]
) -> None:
    base = {"layers": layers, "width": width, "head_size": head_size}
    if distance(*goals) < 0.1:
        goals = [goals[0], 2 * goals[0]]
    plan = planned(**sized(goals, knob=knob), model=base)
    hidden = study_from(TABLES | {"model": base}).model.hidden
    for size in plan.sizes:
        arm = plan.arm(f"gpt [size={size.label}]")
        model = arm.config.model
        assert distance(size.goal, parameters(arm)) <= 0.005
        assert parameters(arm) == size.parameters
        assert model.head_size == head_size
        assert model.query_heads * head_size == model.width
        assert 1 / STRETCH <= (model.hidden / model.width) / (hidden / width) <= STRETCH
        if knob == "width":
            assert model.layers == layers
        if knob == "layers":
            assert model.width == width
        if knob == "both":
            assert 1 / STRETCH <= (model.width / model.layers) / (width / layers) <= STRETCH


def test_a_size_is_what_the_model_really_has() -> None:
    for arm in planned().arms:
        model = Transformer(arm.config.model, interface_of(arm.config, 100))
        outside = sum(
            p.numel() for name, p in model.named_parameters() if name not in ("embedding.weight", "head.weight")
        )
        assert parameters(arm) == outside


def test_the_base_is_taken_as_it_is_where_it_has_the_size() -> None:
    base = parameters(build_plan(study_from(TABLES | {"sizes": []})).arm("gpt"))
    plan = planned(sizes=[base, 10 * base])
    assert plan.sizes[0].changes == {}
    assert plan.arm(f"gpt [size={plan.sizes[0].label}]").config.model == study_from(TABLES).model


def test_every_claim_is_judged_at_each_size() -> None:
    plan = planned()
    assert [(claim.arm, claim.against, str(claim.condition), claim.condition.size) for claim in plan.claims[:3]] == [
        (f"t5 [size={size}]", f"gpt [size={size}]", f"size {size}", size) for size in ("100k", "300k", "1M")
    ]
    assert [str(claim.condition) for claim in plan.claims[6:]] == [
        f"model.init = normal_0.02 at size {size}" for size in ("100k", "300k", "1M")
    ]
    assert Counter(claim.number for claim in plan.claims) == {0: 3, 1: 6}
    assert [claim.condition.as_written for claim in plan.claims] == [True] * 6 + [False] * 3
    copy = plan.arm("unilm [size=1M, init=normal_0.02]")
    assert (copy.repeats, copy.written, copy.size) == (
        "unilm [size=1M]", "unilm", "1M",
    )  # fmt: skip


def test_a_study_that_is_stopped_compares_all_arms_at_all_sizes() -> None:
    plan = planned()
    half = len(plan.trials) // 2
    for seed, trials in ((0, plan.trials[:half]), (1, plan.trials[half:])):
        assert {trial.seed for trial in trials} == {seed}
        assert [trial.arm for trial in trials] == [arm.name for arm in plan.arms]
    assert len({trial.id for trial in plan.trials}) == len(plan.trials)


def test_a_plan_survives_being_written() -> None:
    plan = planned(**sized(["0.3M", "1M"], tokens="proportional"))
    again = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again.to_dict() == plan.to_dict()
    assert again.arms == plan.arms
    assert build_plan(Study.model_validate(json.loads(study_from(TABLES).model_dump_json()))).trials == planned().trials


def test_arms_differ_in_a_size_only_in_what_the_study_varies() -> None:
    plan = planned()
    for size in plan.sizes:
        models = [plan.arm(name).config.model.model_dump() for name in plan.at_size(size.label) if "init" not in name]
        same = {key for key in models[0] if len({json.dumps(model[key]) for model in models}) == 1}
        assert set(models[0]) - same == {"input_attention", "parameters", "memory"}


def test_each_arm_keeps_its_own_ratio_of_the_feed_forward() -> None:
    arms = {"gated": {}, "plain": {"model": {"activation": "gelu"}}}
    plan = planned(vary=["model.activation"], arm=arms, claim=[CLAIM | {"arm": "plain", "against": "gated"}])
    base = build_plan(study_from(TABLES | {"sizes": [], "vary": ["model.activation"], "arm": arms, "claim": []}))
    ratio = base.arm("plain").config.model.hidden / base.arm("gated").config.model.hidden
    for size in plan.sizes:
        gated, plain = (plan.arm(f"{name} [size={size.label}]") for name in arms)
        assert plain.config.model.hidden / gated.config.model.hidden == pytest.approx(ratio, rel=0.01)
        # Equal by their default rule, to within its rounding; so the audit must know that they differ in it.
        assert distance(parameters(plain), parameters(gated)) <= 0.03
        assert "model.feed_forward" in plan.claims[0].vary


def test_learning_rates_follow_the_width_and_tokens_the_parameters() -> None:
    plan = planned(**sized(["0.3M", "1M"], tokens="proportional"))
    base = build_plan(study_from(TABLES | {"sizes": []})).arm("gpt")
    for size in plan.sizes:
        training = plan.arm(f"gpt [size={size.label}]").config.training
        width = plan.arm(f"gpt [size={size.label}]").config.model.width
        assert training.learning_rate == pytest.approx(4e-3 * 64 / width, rel=0.005)
        assert training.tokens / size.parameters == pytest.approx(4096 / parameters(base), rel=0.001)
    same = planned(**sized(["0.3M", "1M"], learning_rate="same"))
    assert {arm.config.training.learning_rate for arm in same.arms} == {4e-3}
    assert {arm.config.training.tokens for arm in same.arms} == {4096}
    deep = planned(**sized(["0.3M", "1M"], knob="layers"))
    assert {arm.config.training.learning_rate for arm in deep.arms} == {4e-3}


def test_an_arm_with_a_learning_rate_of_its_own_follows_the_rule_too() -> None:
    arms = {"gpt": {}, "hot": {"training": {"learning_rate": 8e-3}}}
    plan = planned(vary=["training.learning_rate"], arm=arms, claim=[])
    for size in plan.sizes:
        rates = [plan.arm(f"{name} [size={size.label}]").config.training.learning_rate for name in arms]
        assert rates[1] / rates[0] == pytest.approx(2, rel=0.01)


def test_grids_follow_the_rule_and_each_size_is_tuned_by_itself() -> None:
    plan = planned(training={"tokens": 4096, "batch": 4, "learning_rate": [1e-3, 2e-3, 4e-3]})
    assert plan.tuning is not None
    grids = [group.grid["training.learning_rate"] for group in plan.tuning.groups]
    assert len(grids) == len(plan.sizes)
    for size, grid, group in zip(plan.sizes, grids, plan.tuning.groups, strict=True):
        width = plan.arm(f"gpt [size={size.label}]").config.model.width
        assert grid == pytest.approx([rate * 64 / width for rate in (1e-3, 2e-3, 4e-3)], rel=0.005)
        assert {plan.arm(name).size for name in group.arms} == {size.label}


def test_widths_at_which_some_arm_cannot_be_built_are_passed_over() -> None:
    arms = {"gpt": {}, "mixed": {"model": {"input_attention": "forward_backward_heads"}}}
    small = {"layers": 4, "width": 64, "head_size": 8}
    plan = planned(vary=["model.input_attention"], arm=arms, claim=[], model=small)
    assert all(arm.config.model.query_heads % 2 == 0 for arm in plan.arms)
    with pytest.raises(StudyError, match="not all arms can be built with width = 48") as raised:
        planned(vary=["model.input_attention"], arm=arms, claim=[])
    possible = str(raised.value).rpartition("can be with ")[2].partition(" (")[0].replace(",", "")
    assert planned(vary=["model.input_attention"], arm=arms, claim=[], sizes=[possible, "1M"]).sizes


def test_heads_that_are_written_grow_with_the_width() -> None:
    written = {"layers": 4, "width": 64, "head_size": 16, "heads": 4}
    assert [arm.config.model.width for arm in planned(model=written).arms] == [
        a.config.model.width for a in planned().arms
    ]
    assert all(arm.config.model.query_heads * 16 == arm.config.model.width for arm in planned(model=written).arms)


def test_sizes_need_not_be_written_in_order() -> None:
    assert planned(sizes=["1M", "0.1M", "300k"]).to_dict() == planned().to_dict()


def test_another_reference_has_the_sizes() -> None:
    plan = planned(**sized(["0.5M", "1M"], reference="t5"))
    for size in plan.sizes:
        assert distance(parameters(plan.arm(f"t5 [size={size.label}]")), size.goal) <= 0.005
        assert parameters(plan.arm(f"gpt [size={size.label}]")) < 0.6 * size.goal


BAD: list[tuple[dict[str, Any], str]] = [
    ({"sizes": ["1M"]}, "one size allows no statement about scale"),
    ({"sizes": ["1M", "1M"]}, "1M is there twice"),
    ({"sizes": "1M"}, "should be a list of two or more sizes"),
    ({"sizes": ["1M", "0"]}, "should be"),
    ({"sizes": {"knob": "layers"}}, "knob says how sizes are made, and there is none"),
    (sized(["0.3M", "1M"], knob="depth"), 'should be "width", "layers" or "both"'),
    (sized(["0.3M", "1M"], learning_rate="mup"), 'should be "inverse_width" or "same"'),
    (sized(["0.3M", "1M"], reference="gtp"), 'no such arm; did you mean "gpt"?'),
    (sized(["0.3M", "1M"], values_="x"), "no such field"),
    ({"vary": [*TABLES["vary"], "model.width"]}, "vary.3 = \"model.width\": the study has sizes"),
    ({"arm": {"gpt": {}, "t5": {"model": {"layers": 2}}}}, "arm.t5.model.layers = 2: the study has sizes"),
    ({"model": {"start_from": "somewhere"}}, "a checkpoint has a size of its own"),
    ({"claim": [CLAIM | {"repeat_under": {"model.feed_forward": [64]}}]}, "the study has sizes, which set it"),
    ({"model": {"layers": 2, "input_attention": ["causal", "bidirectional"]}, **sized(["0.3M", "1M"], knob="both")},
     "has a rule for each layer"),
    ({"sizes": [100, "1M"]}, 'sizes: 100: arm "gpt" comes nearest with'),
    ({"model": {"width": 256, "head_size": 128}}, "give another size, or a smaller model.head_size"),
    ({"sizes": ["1M", 1_000_100]}, "both give the same model"),
    ({**sized(["0.01M", "10M"], tokens="proportional"), "model": {"width": 256, "head_size": 8},
      "training": {"tokens": 256, "batch": 4}}, "training.tokens"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "says"), BAD, ids=[says[:40] for _, says in BAD])
def test_wrong_sizes_are_told_in_one_line(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(StudyError) as raised:
        planned(**changes)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_refusal_names_sizes_that_can_be_had() -> None:
    with pytest.raises(StudyError, match=r"comes nearest with") as raised:
        planned(sizes=[100, "1M"])
    smallest = str(raised.value).partition("with ")[2].partition(" (")[0].replace(",", "")
    assert planned(sizes=[smallest, "1M"]).sizes[0].parameters == int(smallest)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sizes")
    write_folder(root / "texts", documents(60, words=120))
    return root


def small(home: Path, **changes: Any) -> dict[str, Any]:
    tables = {
        "seeds": 2,
        "sizes": ["24k", "50k"],
        "data": {"corpus": str(home / "texts"), "tokenizer": "bytes", "window": 32},
        "model": {"layers": 2, "width": 32, "head_size": 8, "feed_forward": 160},
        "training": {"tokens": 512, "batch": 4},
        "evaluation": {"test_windows": 16, "tune_windows": 4, "curve_points": 1},
        "claim": [CLAIM],
    }
    return TABLES | tables | changes


def prepared(home: Path, **changes: Any) -> tuple[Plan, Corpus]:
    study = study_from(small(home, **changes))
    plan = build_plan(study)
    corpus = prepare(plan.data)
    return matched_plan(study, plan, corpus, measure_latency), corpus


def test_matchings_are_solved_at_each_size_and_the_audit_passes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARIBUS_CACHE", str(home / "cache"))
    plan, corpus = prepared(home, match=["parameters"])
    result = audit(plan, corpus)
    assert result["passed"], [claim["faults"] for claim in result["claims"]]
    assert [str(claim.condition) for claim in plan.claims] == [
        "size 24k", "size 50k", "equal parameters at size 24k", "equal parameters at size 50k",
    ]  # fmt: skip
    for claim in plan.claims[2:]:
        assert distance(*(result["arms"][name]["parameters"] for name in (claim.arm, claim.against))) <= 0.005
    assert [matching.condition.size for matching in plan.matchings] == ["24k", "50k"]
    # The arms of a size share their start; those of different sizes have no parameter in common.
    starts = {
        size.label: {result["arms"][name]["common_init"] for name in plan.at_size(size.label)} for size in plan.sizes
    }
    assert all(len(hashes) == 1 for hashes in starts.values())
    assert starts["24k"] != starts["50k"]
    assert len({arm["data_order"] for arm in result["arms"].values()}) == 1


def test_an_arm_that_cannot_be_matched_at_a_size_is_told_with_the_size(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARIBUS_CACHE", str(home / "cache"))
    with pytest.raises(StudyError, match=r"at size 24k: match\.0 = \"parameters\": arm \"t5\" reaches"):
        prepared(home, match=["parameters"], model={"layers": 2, "width": 32, "head_size": 8})


def test_a_study_with_sizes_is_audited_in_80_columns_run_judged_and_verified(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PARIBUS_CACHE", str(home / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    study, out = home / "study.toml", home / "out"
    pair = {"gpt": {}, "t5": T5}
    tables = small(home, match=["parameters"], stopping="group_sequential", max_seeds=3, arm=pair)
    study.write_text(_toml(tables), encoding="utf-8")
    assert run_command(["audit", str(study)]) == 0
    printed = capsys.readouterr().out
    assert max(len(line) for line in printed.splitlines()) <= 80
    assert "Sizes, of the arm gpt" in printed
    assert "6 arms x 3 seeds" in printed
    assert "gpt, at equal" in printed
    assert "at size" not in printed  # a claim that is the same at all sizes has one row
    assert run_command(["run", str(study), "--out", str(out), "--workers", "1"]) == 0
    assert all(check.holds for check in checks(read_study(out)))
    verdicts = json.loads((out / "verdicts.json").read_text())
    assert [str(Condition.model_validate(claim["condition"])) for claim in verdicts["claims"]] == [
        "size 24k", "size 50k", "equal parameters at size 24k", "equal parameters at size 50k",
    ]  # fmt: skip
    assert [entry["condition"]["size"] for entry in verdicts["matchings"]] == ["24k", "50k"]
    found = verdicts["sizes"]
    assert [str(Condition.model_validate(trend["condition"])) for trend in found["trends"]] == ["", "equal parameters"]
    for trend in found["trends"]:
        first, last = (gap["estimate"] for gap in trend["gaps"])
        doublings = pytest.approx(1.0588, rel=0.02)  # log2(50 / 24)
        assert (last - first) / trend["slope"]["estimate"] == doublings
        assert trend["prediction"] is None
    page = (out / "report.html").read_text(encoding="utf-8")
    for words in (
        "Two sizes give a difference and no more",
        "Frontiers of the arms along their sizes",
        "Gaps along the sizes",
    ):
        assert words in page
    assert "One size allows no statement about scale" not in page
    assert verify(out, seed=0, steps=0).faults == []


def _toml(tables: dict[str, Any]) -> str:
    """A study's tables as TOML: sections as inline tables, arms and claims too."""
    return "\n".join(f"{key} = {_value(value)}" for key, value in tables.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)


def test_sizes_grow() -> None:
    plan = planned(**sized(["0.1M", "0.2M", "0.4M", "0.8M"]))
    assert all(before.parameters < after.parameters for before, after in pairwise(plan.sizes))
