"""The audit: what differs between the arms, what is equal, and what each arm costs, counted before anything is spent.

The same counts are compared with what the trainers recorded once a study has run (`recorded`).
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from paribus import spec
from paribus.checkpoints.start import Start, start_of
from paribus.costs.quantities import Quantities
from paribus.data.continuation import off_distribution
from paribus.data.store import Corpus
from paribus.errors import StudyError
from paribus.models.initialisation import initial_names
from paribus.models.interface import Interface, interface_of
from paribus.models.transformer import parameter_shapes
from paribus.own_code import DENIED, Code
from paribus.plan.arms import consequences, differences, used_value
from paribus.plan.tuning import tuning_arm, with_values
from paribus.records.plan import Arm, Plan, PlannedClaim
from paribus.records.trials import Trial, TuningTrial
from paribus.spec.holds import Hold, distance, read_holds
from paribus.spec.match import SEEDS_TOGETHER
from paribus.spec.problems import shown
from paribus.spec.workload import Workload

# Fields that decide which batches are read: where a claim declares one of them, its arms may read other batches.
_BATCH_FIELDS = ("training.tokens", "training.batch")


def audit(plan: Plan, corpus: Corpus, code: Code = DENIED) -> dict[str, Any]:
    """Count and compare all arms of a plan: the content of `audit.json`.

    Quantities that depend on the seed are those of the first seed; `seeds` has all, and a claim must hold for every one.
    Raises StudyError where an arm is too large to be counted on this machine.
    """
    counter = _Counter(corpus, plan.workload, code)
    common = common_by_size(plan, corpus.vocabulary, code)
    arms: dict[str, dict[str, Any]] = {}
    for arm in plan.arms:
        _check_memory(arm, counter.interface(arm.config))
        names = common[arm.size]
        seeds = {str(seed): counter.of_seed(arm.config, seed, names) for seed in plan.seeds}
        arms[arm.name] = {
            "differs": {field: used_value(arm.config, field) for field in differences(arm.config, plan.base)},
            "follows": {field: used_value(arm.config, field) for field in consequences(arm.config, plan.base)},
            **counter.size(arm.config, plan.seeds),
            "common_parameters": len(names),
            "start_from": counter.checkpoint(arm.config),
            "off_distribution": off_distribution(arm.config.objective, arm.config.evaluation),
            **seeds[str(plan.seeds[0])],
            "seeds": seeds,
        }
    planned = [*plan.claims, *_within_effects(plan)]
    for claim in planned:
        _check_served(claim, arms)
    claims = [_claim(plan, claim, arms, counter) for claim in planned]
    tuning = {"tuning": _of_tuning(plan, counter, common)} if plan.tuning else {}
    return {
        "workload": plan.workload.lengths(plan.data.window)._asdict(),
        "arms": arms,
        **tuning,
        "claims": claims,
        "passed": all(claim["passed"] for claim in claims),
    }


def _of_tuning(plan: Plan, counter: "_Counter", common: Mapping[str | None, set[str]]) -> dict[str, Any]:
    """What the trials that chose values read and cost: `{NAME: {parameters, total_parameters, seeds: {SEED: counts}}}`."""
    found: dict[str, dict[str, Any]] = {}
    for trial in plan.tuning.trials if plan.tuning else ():
        arm = tuning_arm(plan, trial)
        size = {name: counter.of(arm.config, name, []) for name in ("parameters", "total_parameters")}
        own = found.setdefault(trial.arm, {**size, "seeds": {}})
        own["seeds"][str(trial.seed)] = counter.of_seed(arm.config, trial.seed, common[arm.size])
    return {"arms": found}


def counted(result: Mapping[str, Any], trial: Trial) -> dict[str, Any]:
    """What an audit says of a trial's arm, at its seed and at any."""
    arm: dict[str, Any] = (result["tuning"] if isinstance(trial, TuningTrial) else result)["arms"][trial.arm]
    return {**arm, **arm["seeds"][str(trial.seed)]}


def _within_effects(plan: Plan) -> Iterator[PlannedClaim]:
    """The pairs of arms that claims about crossed factors compare within: they differ in one factor and hold what is equal.

    Those that a claim, or an effect before, compares under the same conditions are told there.
    """
    told = {(frozenset((claim.arm, claim.against)), *claim.hold) for claim in plan.claims}
    for effect in plan.effects:
        own = {
            name: getattr(effect, name)
            for name in ("says", "metric", "expect", "margin", "estimand", "hold", "condition")
        }
        for arm, against in effect.pairs:
            pair = (frozenset((arm, against)), *effect.hold)
            if pair in told:
                continue
            told.add(pair)
            yield PlannedClaim(
                **own, number=effect.number, arm=arm, against=against, vary=effect.factors[0].split(" with ")
            )


class _Counter(Quantities):
    """Counts what follows from a seed, each thing once however many arms share it."""

    def __init__(self, corpus: Corpus, workload: Workload, code: Code) -> None:
        super().__init__(corpus, workload, code)
        self._starts: dict[tuple[Any, ...], str] = {}

    def of_seed(self, config: spec.Config, seed: int, common: set[str]) -> dict[str, Any]:
        """FLOPs, tokens, and hashes of the data order and of the start, as a whole and of the `common` parameters."""
        read, flops = self.read(config, seed), self.training(config, seed)
        kept = ("seen_tokens", "loss_tokens", "documents_left_out", "data_order", "data_order_steps")
        branches = self.branches(config, seed)
        return {
            "train_flops": flops.exact,
            "train_flops_executed": flops.executed,
            **{name: read[name] for name in kept},
            "branches": branches,
            "branch_tokens": sum(branch["branch_tokens"] for branch in branches),
            "branch_flops": sum(branch["branch_flops"] for branch in branches),
            "init": self._hash(parameter_shapes(config.model, self.interface(config)), seed, config),
            "common_init": self.common_start(config, seed, common),
        }

    def common_start(self, config: spec.Config, seed: int, names: set[str]) -> str:
        """Hash of the starting values of the parameters `names`."""
        shapes = initial_names(config.model, self.interface(config))
        return self._hash({name: shapes[name] for name in names}, seed, config)

    def _hash(self, shapes: Mapping[str, tuple[int, ...]], seed: int, config: spec.Config) -> str:
        start = self.start(config)
        key = (seed, start.init, start.hash, *sorted(shapes.items()))
        if key not in self._starts:
            self._starts[key] = start.hash_of(shapes, seed)
        return self._starts[key]

    def start(self, config: spec.Config) -> Start:
        """How an arm starts."""
        return start_of(config.model, self.interface(config))

    def checkpoint(self, config: spec.Config) -> dict[str, Any] | None:
        """The checkpoint that an arm starts from, and which parameters it lacks; None without one."""
        start = self.start(config)
        if start.hash is None:
            return None
        fresh = start.fresh(parameter_shapes(config.model, self.interface(config)))
        return {"folder": config.model.start_from, "hash": start.hash, "start_as_init_says": fresh}


def _check_memory(arm: Arm, interface: Interface) -> None:
    """Refuse an arm whose largest tensor this machine cannot hold: the system would end the process without a word."""
    model, window = arm.config.model, arm.config.data.window
    largest = max(math.prod(shape) for shape in initial_names(model, interface).values())
    mask = model.query_heads * window**2
    if 3 * max(4 * largest, mask) > _memory():
        mend = "use a smaller model.width or data.window"
        raise StudyError(
            f"study: arm {shown(arm.name)}: one tensor alone is too large for this machine's memory; {mend}"
        )


def _memory() -> float:
    """Bytes of this machine's memory; no limit where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return math.inf


def _check_served(claim: PlannedClaim, arms: Mapping[str, Any]) -> None:
    """Refuse to hold the cost of a workload that an arm cannot serve."""
    for hold in read_holds(claim.hold):
        for name in (claim.arm, claim.against):
            if hold.quantity in ("serve_flops", "kv_bytes") and arms[name]["unserved"]:
                raise StudyError(
                    f"study: arm {shown(name)} cannot serve the workload, so {hold.quantity} cannot be held: "
                    f"{arms[name]['unserved']}; set model.positions, or shorten it"
                )


def common_by_size(plan: Plan, vocabulary: int, code: Code = DENIED) -> dict[str | None, set[str]]:
    """By size (None in a study without): names of the parameters that all arms of that size have in the same shape."""
    return {
        size: common_names(plan, vocabulary, plan.at_size(size), code)
        for size in dict.fromkeys(arm.size for arm in plan.arms)
    }


def common_names(plan: Plan, vocabulary: int, arms: list[str] | None = None, code: Code = DENIED) -> set[str]:
    """Names of the parameters that all arms (or those named) have in the same shape, hence start with the same values."""
    chosen = plan.arms if arms is None else [plan.arm(name) for name in arms]
    shapes = [initial_names(arm.config.model, interface_of(arm.config, vocabulary, code)) for arm in chosen]
    return {name for name, shape in shapes[0].items() if all(other.get(name) == shape for other in shapes[1:])}


def _claim(plan: Plan, claim: PlannedClaim, arms: Mapping[str, Any], counter: _Counter) -> dict[str, Any]:
    """One claim's contrast: which fields differ, whether they may, and whether what must be equal is."""
    pair = [claim.arm, claim.against]
    one, other = (plan.arm(name).config for name in pair)
    apart = differences(one, other)
    tuned = [field for field in apart if plan.tuning and field in plan.tuning.fields]
    varies = [field for field in apart if field not in tuned]
    undeclared = [field for field in varies if field not in claim.vary]
    together = plan.seeds[:SEEDS_TOGETHER] if claim.condition.matching else []
    holds = [_held(hold, arms[claim.arm], arms[claim.against], together) for hold in read_holds(claim.hold)]
    names = common_names(plan, counter.corpus.vocabulary, pair, counter.code)
    starts = {
        (counter.common_start(config, plan.seeds[0], names), counter.start(config).hash) for config in (one, other)
    }
    orders = [[seed["data_order"] for seed in arms[name]["seeds"].values()] for name in pair]
    contrast = {
        "says": claim.says,
        "arm": claim.arm,
        "against": claim.against,
        "condition": claim.condition.model_dump(mode="json"),
        "varies": varies,
        "tuned": tuned,
        "follows": consequences(one, other),
        "undeclared": undeclared,
        "holds": holds,
        "common_parameters": len(names),
        "same_start": len(starts) == 1,
        "same_data": orders[0] == orders[1],
    }
    faults = [*_faults(contrast), *_broken_by_tuning(plan, claim, counter)]
    return {**contrast, "faults": faults, "passed": not faults}


def _faults(claim: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a contrast, a sentence each that says how to mend it."""
    where = f"claim {shown(claim['says'], 50)}"
    pair = f"{shown(claim['arm'])} and {shown(claim['against'])}"
    for field in claim["undeclared"]:
        yield f"{where}: {pair} differ in {field}, which its vary does not list; add it there, or make the arms equal in it"
    for hold in claim["holds"]:
        if not hold["holds"]:
            apart = distance(hold["arm"], hold["against"])
            limit = f", where {hold['tolerance']:.2%} is allowed" if hold["tolerance"] else ""
            mend = "make them equal, or leave it out of this claim's hold"
            if apart < 0.99:
                entry = f"{hold['quantity']}: {math.floor(apart * 100) + 1}%"
                mend = f"make them equal, leave it out of this claim's hold, or allow {shown(entry)}"
            values = f"{hold['arm']:,} and {hold['against']:,}, {apart:.2%} apart{limit}"
            yield f"{where}: {pair} must hold {hold['quantity']} equal, but have {values}; {mend}"
    # An undeclared field that explains the next two was named above.
    declared = {"model.init", "model.start_from"} & set(claim["varies"])
    if not claim["same_start"] and not declared:
        yield f"{where}: {pair} do not start from the same weights in the parameters that they share"
    if not claim["same_data"] and not any(
        field in _BATCH_FIELDS or field.startswith("objective.") for field in [*claim["varies"], *claim["tuned"]]
    ):
        yield f"{where}: {pair} do not read the same batches in the same order"


def _broken_by_tuning(plan: Plan, claim: PlannedClaim, counter: _Counter) -> Iterator[str]:
    """Before values are chosen: where the arms would break a `hold` if each chose another batch of the grid as written.

    Steps are whole, so batches that do not divide the tokens read a little more or less of them.
    """
    tuned = plan.tuning
    if tuned is None or tuned.choices or "training.batch" not in tuned.fields:
        return
    batches = tuned.group_of(claim.arm).grid["training.batch"]
    counts = [
        counter.of_seed(with_values(plan.arm(name).config, {"training.batch": batch}), plan.seeds[0], set())
        for name in (claim.arm, claim.against)
        for batch in batches
    ]
    ours, theirs = counts[: len(batches)], counts[len(batches) :]
    for hold in read_holds(claim.hold):
        if hold.quantity not in ours[0]:
            continue
        pairs = [(one[hold.quantity], other[hold.quantity]) for one in ours for other in theirs]
        worst = max(pairs, key=lambda pair: distance(*pair))
        if not hold.allows(*worst):
            entry = f"{hold.quantity}: {math.floor(distance(*worst) * 100) + 1}%"
            yield (
                f"claim {shown(claim.says, 50)}: training.batch is tuned, and arms that choose different ones of "
                f"{', '.join(map(str, batches))} may have {hold.quantity} of {worst[0]:,} and {worst[1]:,}; give batches and "
                f"training.tokens that make whole steps, or allow {shown(entry)}"
            )


def _held(hold: Hold, arm: Mapping[str, Any], against: Mapping[str, Any], together: Sequence[int]) -> dict[str, Any]:
    """One `hold` entry: the two values, of the seed where they are furthest apart.

    Of a matching's training FLOPs the means of the seeds over which it was made, `together`.
    """
    pairs = [(arm[hold.quantity], against[hold.quantity])]
    if together and hold.quantity == "train_flops":
        means = (
            sum(each["seeds"][str(seed)]["train_flops"] for seed in together) // len(together)
            for each in (arm, against)
        )
        pairs = [(next(means), next(means))]
    elif hold.quantity in next(iter(arm["seeds"].values())):
        pairs = [(arm["seeds"][seed][hold.quantity], against["seeds"][seed][hold.quantity]) for seed in arm["seeds"]]
    worst = max(pairs, key=lambda pair: distance(*pair))
    return {
        "quantity": hold.quantity,
        "arm": worst[0],
        "against": worst[1],
        "tolerance": hold.tolerance,
        "holds": hold.allows(*worst),
    }


def recorded(result: Mapping[str, Any], plan: Plan, results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The audit again, with what the trainers recorded set against what was counted before.

    `results` maps trial ids to their `result.json`; trials that are missing are not compared, and of a diverged trial only
    what was fixed before its first step. A mismatch makes `passed` false and is told in `recorded.mismatches`.
    """
    compared = [trial for trial in plan.all_trials if trial.id in results]
    mismatches = [
        f"trial {trial.id}: {text}"
        for trial in compared
        for text in _mismatches(counted(result, trial), results[trial.id])
    ]
    mismatches += _orders(result, [trial for trial in compared if _is_done(results[trial.id])], results)
    judged = [results[trial.id] for trial in plan.trials if trial.id in results]
    if len({record["hashes"].get("test_windows") for record in judged if _is_done(record)}) > 1:
        mismatches.append("the trials were not all scored on the same test windows")
    passed = all(claim["passed"] for claim in result["claims"]) and not mismatches
    return {**result, "recorded": {"trials": len(compared), "mismatches": mismatches}, "passed": passed}


def _is_done(record: Mapping[str, Any]) -> bool:
    return bool(record["status"] == "done")


def _mismatches(expected: Mapping[str, Any], record: Mapping[str, Any]) -> Iterator[str]:
    found = {**record, **record["hashes"]}
    names = ["parameters", "total_parameters", "init", "common_init"]
    if _is_done(record):
        names += ["seen_tokens", "loss_tokens"]
    for name in names:
        if found.get(name) != expected[name]:
            yield f"{name} should be {_number(expected[name])}, but the trainer recorded {_number(found.get(name))}"
    for branch, counted in zip(record.get("budgets") or [], expected.get("branches") or [], strict=False):
        yield from _branch_mismatches(branch, counted)


def _branch_mismatches(branch: Mapping[str, Any], counted: Mapping[str, Any]) -> Iterator[str]:
    """What a finished branch read, against what was counted and against what its trunk read."""
    if not _is_done(branch):
        return
    where = f"the branch of {counted['tokens']:,} tokens"
    for name in ("tokens", "steps", "seen_tokens", "loss_tokens", "branch_tokens"):
        if branch.get(name) != counted[name]:
            yield f"{where}: {name} should be {_number(counted[name])}, but the trainer recorded {_number(branch.get(name))}"
    if branch["trunk_data_order"] not in (None, branch["data_order"]):
        yield f"{where} read other batches than its trunk did: {branch['data_order']} and {branch['trunk_data_order']}"


def _orders(result: Mapping[str, Any], trials: list[Trial], results: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Compare the order of the data with the one counted, or, where that covers only the first of many steps, among arms."""
    first: dict[str, Trial] = {}
    for trial in trials:
        expected = counted(result, trial)
        record = results[trial.id]
        found = record["hashes"]["data_order"]
        if record["steps"] <= expected["data_order_steps"]:
            if found != expected["data_order"]:
                yield f"trial {trial.id}: data_order should be {expected['data_order']}, but the trainer recorded {found}"
        elif found != results[first.setdefault(expected["data_order"], trial).id]["hashes"]["data_order"]:
            yield f"trial {trial.id}: data_order is not that of {first[expected['data_order']].id}"


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def complaints(result: Mapping[str, Any]) -> list[str]:
    """All that an audit found wrong, a sentence each; empty if it passed."""
    found = [fault for claim in result["claims"] for fault in claim["faults"]]
    return found + list(result.get("recorded", {}).get("mismatches", []))
