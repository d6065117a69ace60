"""Arms solved for: equal to within 0.5 % by exact counts, shared where they are equal already, refused where they cannot be."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora import documents, write_folder
from paribus.analyses.matching.combined import combined, still_open
from paribus.cli.main import run_command
from paribus.costs.latency import Latency, measure_latency
from paribus.data.store import Corpus, prepare
from paribus.errors import StudyError, UserError
from paribus.files import write_json
from paribus.own_code import Code
from paribus.plan.audit import audit
from paribus.plan.building import build_plan
from paribus.plan.matching import matched_plan, solve
from paribus.plan.reading import study_from
from paribus.plan.search import nearest
from paribus.records.condition import Condition, Matched
from paribus.records.plan import Plan, PlannedClaim
from paribus.spec.holds import distance
from paribus.spec.study import Config
from paribus.verify.evidence import Evidence
from paribus.verify.matching import matchings

CLAIM = {"says": "s", "arm": "t5", "against": "gpt", "expect": "better", "margin": 0.1}
T5 = {"model": {"input_attention": "bidirectional", "parameters": "separate", "memory": "cross_attention"}}
ARMS: dict[str, Any] = {"gpt": {}, "unilm": {"model": {"input_attention": "bidirectional"}}, "t5": T5}
TABLES: dict[str, Any] = {
    "question": "q",
    "vary": ["model.input_attention", "model.parameters", "model.memory"],
    "hold": ["seen_tokens", "loss_tokens"],
    "seeds": 2,
    "model": {"layers": 4, "width": 64, "head_size": 16},
    "training": {"tokens": 4096, "batch": 4},
    "arm": ARMS,
    "claim": [CLAIM, CLAIM | {"arm": "unilm"}],
}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    root = tmp_path_factory.mktemp("matching")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARIBUS_CACHE", str(root / "cache"))
        folder = write_folder(root / "texts", documents(60, words=120))
        yield {"corpus": str(folder), "tokenizer": "bytes", "window": 32}


def planned(text: dict[str, Any], **changes: Any) -> tuple[Plan, Corpus]:
    study = study_from(TABLES | {"data": text} | changes)
    plan = build_plan(study)
    corpus = prepare(plan.data)
    return matched_plan(study, plan, corpus, measure_latency), corpus


@pytest.mark.parametrize("quantity", ["parameters", "total_parameters", "train_flops", "serve_flops"])
@pytest.mark.parametrize("workload", ["one_shot", "retrieval"])
def test_arms_are_solved_for_and_the_audit_counts_them_equal(
    text: dict[str, Any], quantity: str, workload: str
) -> None:
    if (quantity, workload) == ("serve_flops", "retrieval"):
        text = text | {"window": 64}
    plan, corpus = planned(text, match=[quantity], workload={"use": workload, "batch": 1, "shared_prefix": 0})
    result = audit(plan, corpus)
    assert result["passed"], [claim["faults"] for claim in result["claims"]]
    copy = next(arm for arm in plan.arms if arm.repeats == "t5")

    def of(name: str) -> int:
        """Of training FLOPs those of both seeds, which draw lengths of their own."""
        arm = result["arms"][name]
        return sum(seed[quantity] for seed in arm["seeds"].values()) if quantity == "train_flops" else arm[quantity]

    assert distance(of(copy.name), of("gpt")) <= 0.005
    assert distance(of("t5"), of("gpt")) > 0.005
    value = copy.config.model.feed_forward
    assert copy.name == f"t5 [{quantity}: feed_forward={value}]"
    assert copy.condition.matching is not None
    assert copy.condition.matching.quantities == (quantity,)
    assert copy.overrides["model.feed_forward"] == value


def test_keys_and_values_are_matched_by_layers(text: dict[str, Any]) -> None:
    wide = {"gpt": {}, "t5": {"model": {"kv_heads": 2}}}
    tables = {"arm": wide, "vary": ["model.kv_heads"], "claim": [CLAIM]}
    plan, corpus = planned(text, match=["kv_bytes"], **tables)
    result = audit(plan, corpus)
    assert plan.arm("t5 [kv_bytes: layers=8]").config.model.layers == 8
    assert result["arms"]["t5 [kv_bytes: layers=8]"]["kv_bytes"] == result["arms"]["gpt"]["kv_bytes"]


def test_two_quantities_take_two_knobs(text: dict[str, Any]) -> None:
    wide = {"gpt": {}, "t5": {"model": {"kv_heads": 2}}}
    both = {"quantities": ["parameters", "kv_bytes"], "knobs": ["feed_forward", "layers"]}
    plan, corpus = planned(text, match=[both], arm=wide, vary=["model.kv_heads"], claim=[CLAIM])
    (copy,) = [arm for arm in plan.arms if arm.repeats]
    result = audit(plan, corpus)
    assert copy.config.model.layers == 8
    for quantity in both["quantities"]:
        assert distance(result["arms"][copy.name][quantity], result["arms"]["gpt"][quantity]) <= 0.005
    assert str(plan.claims[-1].condition) == "equal parameters and bytes of keys and values"
    assert plan.claims[-1].hold[-2:] == ["parameters: 0.5%", "kv_bytes: 0.5%"]


def test_claims_are_repeated_under_each_matching_and_equal_arms_are_shared(text: dict[str, Any]) -> None:
    plan, _ = planned(
        text, match=["parameters", "total_parameters", "train_flops"], hold=["parameters: 90%", "seen_tokens"]
    )
    under = [(claim.arm, claim.against, str(claim.condition)) for claim in plan.claims]
    assert under[:2] == [("t5", "gpt", ""), ("unilm", "gpt", "")]
    copy = under[2][0]
    # Embeddings are equal anyway, so one copy is equal in both; UniLM has GPT's parameters as it is.
    assert under[2:6] == [
        (copy, "gpt", "equal parameters"),
        ("unilm", "gpt", "equal parameters"),
        (copy, "gpt", "equal parameters, embeddings included"),
        ("unilm", "gpt", "equal parameters, embeddings included"),
    ]
    assert [str(claim.condition) for claim in plan.claims[6:]] == ["equal training cost"] * 2
    matched = plan.claims[2]
    assert matched.vary == [*TABLES["vary"], "model.feed_forward"]
    assert matched.hold == ["seen_tokens", "parameters: 0.5%"]
    assert matched.condition.matching == Matched(quantities=("parameters",), knobs=("feed_forward",))
    names = [arm.name for arm in plan.arms]
    assert len(set(names)) == len(names)
    assert len({arm.config.model_dump_json() for arm in plan.arms}) == len(names)
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))).to_dict() == plan.to_dict()


def test_the_reference_stays_and_the_others_move(text: dict[str, Any]) -> None:
    plan, corpus = planned(
        text, match=[{"quantity": "parameters", "reference": "t5"}], claim=[CLAIM, CLAIM | {"arm": "unilm"}]
    )
    assert {arm.repeats for arm in plan.arms if arm.condition.matching} == {"gpt", "unilm"}
    # Two arms on either side of a third may be 1 % apart.
    assert [claim.hold[-1] for claim in plan.claims[2:]] == ["parameters: 0.5%", "parameters: 1%"]
    assert audit(plan, corpus)["passed"]


def test_alternative_knobs_are_matchings_of_their_own(text: dict[str, Any]) -> None:
    deep = {"gpt": {}, "t5": {"model": {"layers": 8}}}
    ways = {"quantity": "parameters", "knob": ["feed_forward", "layers"]}
    plan, _ = planned(text, match=[ways], arm=deep, vary=["model.layers"], claim=[CLAIM])
    assert [
        (str(claim.condition), claim.condition.matching.knob) for claim in plan.claims[1:] if claim.condition.matching
    ] == [
        ("equal parameters by feed_forward", "feed_forward"),
        ("equal parameters by layers", "layers"),
    ]
    assert plan.claims[2].arm == "t5 [parameters: layers=4]"


@pytest.mark.parametrize(
    "match, words",
    [
        (["parameter"], r"match\.0 = \"parameter\".*did you mean \"parameters\""),
        (["kv_byte"], "did you mean"),
        ([{"quantity": "parameters", "knobs": ["layers", "width"]}], "knob instead of knobs"),
        ([{"quantities": ["parameters", "kv_bytes"], "knob": "layers"}], "two quantities need two knobs"),
        ([{"quantities": ["parameters"]}], r"match\.0\.quantities"),
        ([{"knob": "layers"}], "should have quantity"),
        ([{"quantity": "parameters", "reference": "gtp"}], 'no such arm; did you mean "gpt"'),
        ([{"quantity": "parameters", "knbo": "layers"}], "did you mean"),
        (
            [{"quantity": "parameters", "knob": "layers"}],
            r"arm \"t5\" reaches .* \(layers = 1\) or .* \(layers = 2\) parameters",
        ),
        ([{"quantity": "kv_bytes", "knob": "feed_forward"}], "feed_forward does not change kv_bytes"),
        ([{"quantities": ["parameters", "train_flops"]}], "comes nearest at"),
        ([{"quantities": ["parameters", "latency"], "knobs": ["layers", "width"]}], "matched only by itself"),
    ],
)
def test_what_cannot_be_matched_is_refused_in_one_line(text: dict[str, Any], match: list[Any], words: str) -> None:
    arms = ARMS | {"t5": {"model": T5["model"] | {"kv_heads": 2}}}
    with pytest.raises(StudyError, match=words) as caught:
        planned(text, match=match, arm=arms, vary=[*TABLES["vary"], "model.kv_heads"])
    assert "\n" not in str(caught.value)


def test_what_cannot_be_served_has_no_cost_and_cannot_be_matched(text: dict[str, Any]) -> None:
    tables = {"model": TABLES["model"] | {"position": "learned"}, "workload": {"input": 30, "output": 30}}
    plan, corpus = planned(text, **tables)
    gpt = audit(plan, corpus)["arms"]["gpt"]
    assert gpt["serve_flops"] is gpt["kv_bytes"] is None
    assert "learned positions" in gpt["unserved"]
    with pytest.raises(StudyError, match="cannot serve the workload: it needs"):
        planned(text, match=["serve_flops"], **tables)
    with pytest.raises(StudyError, match="serve_flops cannot be held"):
        audit(*planned(text, hold=["serve_flops"], **tables))


def test_a_study_without_matchings_has_the_plan_it_had(text: dict[str, Any]) -> None:
    plan, _ = planned(text)
    assert [arm.name for arm in plan.arms] == list(ARMS)
    assert plan.trials == build_plan(study_from(TABLES | {"data": text})).trials


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(-5, 700), st.integers(0, 3))
def test_the_neighbours_of_a_goal_are_found_in_any_rising_function(rises: list[int], goal: int, shift: int) -> None:
    values = [sum(rises[: index + 1]) for index in range(len(rises))]
    low, high = nearest(lambda knob: values[knob - shift], shift, shift + len(values) - 1, goal)
    assert min(abs(each.value - goal) for each in (low, high)) == min(abs(value - goal) for value in values)
    assert {each.value for each in (low, high)} <= set(values)
    assert low.knob <= high.knob <= low.knob + 1


def planned_claim(quantity: str | None = None, knob: str = "") -> PlannedClaim:
    """The claim as written, or under a matching."""
    matching = Matched(quantities=(quantity,), knobs=(knob,), among_others=True) if quantity else None
    more = {"number": 0, "vary": [], "hold": [], "condition": Condition(matching=matching)}
    return PlannedClaim.model_validate(CLAIM | more)


def test_a_verdict_that_depends_on_the_knob_is_undecided() -> None:
    ways = [("parameters", "feed_forward"), ("parameters", "layers"), ("train_flops", "feed_forward")]
    claims = [planned_claim(), *(planned_claim(*way) for way in ways)]
    for verdicts, expected in (
        (["refuted", "supported", "supported", "refuted"], ["supported", "refuted"]),
        (["refuted", "supported", "refuted", "supported"], ["undecided", "supported"]),
        (["refuted", "supported", "undecided", "undecided"], ["undecided", "undecided"]),
    ):
        found = combined(claims, [{"verdict": verdict} for verdict in verdicts])
        assert [entry.verdict for entry in found] == expected
        assert found[0].verdicts == {"feed_forward": verdicts[1], "layers": verdicts[2]}
        assert (found[0].arm, found[0].against, found[0].claim) == ("t5", "gpt", 0)


def test_more_seeds_are_asked_for_unless_knobs_disagree_already() -> None:
    knobs = ("feed_forward", "layers", "width")
    planned = [planned_claim(), *(planned_claim("parameters", knob) for knob in knobs)]
    for verdicts, still in (
        (["supported", "supported", "supported", "undecided"], [3]),
        (["supported", "supported", "undecided", "undecided"], [2, 3]),
        (["supported", "supported", "refuted", "refuted"], []),  # every claim is decided, the matching never will be
        (["supported", "supported", "refuted", "undecided"], []),
        (["undecided", "supported", "refuted", "undecided"], [0]),
    ):
        judged = [{"verdict": verdict, "place": place} for place, verdict in enumerate(verdicts)]
        assert [answer["place"] for answer in still_open(planned, judged)] == still


def test_the_command_shows_every_quantity_in_80_columns(
    text: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "my.toml").write_text(
        f"""
question = "q"
vary = ["model.parameters", "model.memory"]
match = ["parameters", "train_flops"]
workload = "chat"
[data]
corpus = {json.dumps(text["corpus"])}
tokenizer = "bytes"
window = 32
[model]
layers = 2
width = 64
[training]
tokens = 4096
[arm.gpt]
[arm.t5]
model.parameters = "separate"
model.memory = "final_layer"
[[claim]]
says = "s"
arm = "t5"
against = "gpt"
expect = "better"
margin = 0.1
"""
    )
    assert run_command(["audit", str(tmp_path / "my.toml")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    shown = " ".join(" ".join(lines).split())
    for words in ("live", "executed", "KV bytes", "path", "1 request of 8 turns", "at equal parameters", "within 0.5%"):
        assert words in shown
    assert run_command(["audit", str(tmp_path / "my.toml"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    for arm in result["arms"].values():
        assert arm["live_parameters"] <= arm["total_parameters"]
        assert arm["train_flops"] <= arm["train_flops_executed"]
        assert arm["serve_flops"] <= arm["serve_flops_executed"]
    paths = {name: arm["serial_path"] for name, arm in result["arms"].items()}
    assert paths["gpt"] == 2
    assert paths["t5"] == 4
    assert result["workload"]["turns"] == 8


def test_studies_say_workloads_wrong_in_one_line(text: dict[str, Any]) -> None:
    for workload, words in (
        ("chatty", "one_shot"),
        ({"trns": 2}, "turns"),
        ({"turns": 0}, "above 0"),
        ({"shared_prefix": -1}, "0"),
    ):
        with pytest.raises(StudyError, match=words) as caught:
            study_from(TABLES | {"data": text, "workload": workload})
        assert "workload" in str(caught.value)


def test_latency_is_matched_as_far_as_measurements_tell_and_never_measured_twice(text: dict[str, Any]) -> None:
    study = study_from(TABLES | {"data": text, "match": ["latency"], "claim": [CLAIM]})
    plan = build_plan(study)
    corpus = prepare(plan.data)
    asked: list[int] = []

    def measured(plan: Plan, corpus: Corpus, config: Config, reference: Config, code: Code) -> Latency:
        asked.append(config.model.hidden)
        assert reference == plan.arm("gpt").config
        return Latency(0.4 + config.model.hidden / 101, 0.008)

    (solved,) = solve(study, plan, corpus, measured)
    (width,) = solved.changes["t5"].values()
    assert width in (60, 61)
    assert solved.latencies["t5"] == {"ratio": 0.4 + width / 101, "spread": 0.008}
    assert len(asked) < 12
    matched = build_plan(study, [solved])
    claim = matched.claims[-1]
    assert (claim.arm, str(claim.condition), claim.hold) == (
        f"t5 [latency: feed_forward={width}]",
        "equal latency",
        TABLES["hold"],
    )
    assert audit(matched, corpus)["passed"]
    before = Plan.from_dict(json.loads(json.dumps(matched.to_dict()))).matchings
    asked.clear()
    assert matched_plan(study, plan, corpus, measured, before).to_dict() == matched.to_dict()
    assert not asked
    with pytest.raises(StudyError, match=r"takes 1\.\d+ times as long as \"gpt\" at feed_forward = 1"):
        solve(study, plan, corpus, lambda *_, **__: Latency(1.2, 0.008))
    with pytest.raises(StudyError, match="scatter by ± 20% here"):
        solve(study, plan, corpus, lambda *_, **__: Latency(1.1, 0.2))


def test_verify_solves_matchings_again_but_for_what_was_measured(text: dict[str, Any], tmp_path: Path) -> None:
    study = study_from(TABLES | {"data": text, "match": ["parameters", "latency"], "claim": [CLAIM]})
    plan = build_plan(study)
    corpus = prepare(plan.data)
    solved = solve(study, plan, corpus, lambda *_, **__: Latency(1.0, 0.008))
    write_json(tmp_path / "study.json", study.model_dump(mode="json"), sort_keys=False)
    planned = json.loads(json.dumps(build_plan(study, solved).to_dict()))
    write_json(tmp_path / "plan.json", planned)
    found = matchings(Evidence(tmp_path, packed=False), corpus)
    assert (found.outcome, found.faults) == ("holds", ())
    assert found.says == "1 matching solved for again; 1 by latency, which was measured, taken from plan.json"
    (right,) = planned["matchings"][0]["changes"]["t5"].values()
    planned["matchings"][0]["changes"]["t5"] = {"model.feed_forward": right + 1}
    write_json(tmp_path / "plan.json", planned)
    (fault,) = matchings(Evidence(tmp_path, packed=False), corpus).faults
    assert fault.endswith(f"changes.t5.model.feed_forward is {right + 1} and should be {right}")
    write_json(tmp_path / "plan.json", planned | {"matchings": planned["matchings"][:1]})
    with pytest.raises(UserError, match="lacks a latency"):
        matchings(Evidence(tmp_path, packed=False), corpus)


def test_an_arm_is_as_fast_as_itself_and_slower_than_half_of_it(text: dict[str, Any]) -> None:
    plan, corpus = planned(text)
    gpt = plan.arm("gpt").config
    deep = gpt.model_copy(update={"model": gpt.model.model_copy(update={"layers": 16})})
    same = measure_latency(plan, corpus, gpt, gpt)
    assert abs(same.ratio - 1) < 0.3
    assert measure_latency(plan, corpus, deep, gpt).ratio > 2


def test_every_way_is_tried_in_the_order_written() -> None:
    study = study_from(TABLES | {"match": ["kv_bytes", {"quantity": "parameters", "knob": ["width", "layers"]}]})
    assert [matching.ways for matching in study.match] == [[("layers",)], [("width",), ("layers",)]]
    assert all(a is not b for a, b in pairwise(study.match))
