"""What a study's answer is conditional on, and how to read it: the same in every format.

Choices that are the default in every arm go without saying; those that are not, or in which arms differ, are named.
"""

from collections.abc import Sequence

from paribus.display.measured import SHARES, objectives, scored_on
from paribus.display.numbers import MISSING, compact, grouped, listed, value_text
from paribus.display.stopping import stopping_short, stopping_text
from paribus.evaluation.metrics import METRICS
from paribus.records.reading import StudyRecord
from paribus.spec.model import Model
from paribus.spec.sizes import size_label

_CHOICES = (
    ("Positions", "position"),
    ("Token mixer", "mixer"),
    ("Norm", "norm"),
    ("Activation", "activation"),
    ("Started from", "start_from"),
)


def scope_note(record: StudyRecord) -> str:
    """How far the answer reaches, in a sentence or two."""
    sizes = record.study.get("sizes") or {}
    if values := sizes.get("values"):
        reach = f"From {size_label(values[0])} to {size_label(values[-1])} parameters of the reference arm"
        return f"{reach}, at these budgets: this corpus, these tokens and this recipe. No verdict reaches beyond the largest."
    return "At this budget: this corpus, this size, these tokens and this recipe. One size allows no statement about scale."


def scope_of(record: StudyRecord) -> list[tuple[str, str]]:
    """What the answer is conditional on, as label and value."""
    base = record.base_arms
    training = record.study.get("training") or {}
    rows = [("Corpus", _corpus(record))]
    names = objectives(record)
    if names != ("prefix_lm",):
        rows.append(("Objective", listed(names)))
    parameters = [arm.audit["parameters"] for arm in base if arm.audit.get("parameters") is not None]
    if parameters:
        low, high = compact(min(parameters)), compact(max(parameters))
        rows.append(("Parameters", f"{low if low == high else f'{low} to {high}'} (non-embedding)"))
    for label, field in _CHOICES:
        default = Model.model_fields[field].default
        chosen = list(dict.fromkeys(arm.section("model").get(field, default) for arm in base))
        if chosen not in ([default], []):
            rows.append((label, listed(value_text(value) for value in chosen)))
    seen = [arm.audit["seen_tokens"] for arm in base if arm.audit.get("seen_tokens") is not None]
    tokens = max(seen) if seen else training.get("tokens")
    if tokens is not None:
        rows.append(("Training", f"{compact(tokens)} tokens per trial"))
    seeds = sorted({trial.seed for trial in record.trials})
    rows.append(("Seeds", f"{len(seeds)} ({seed_text(seeds)})"))
    rows.append(("Stopping rule", stopping_short(record)))
    inits = list(dict.fromkeys(str(arm.section("model").get("init", MISSING)) for arm in record.arms))
    again = f" (repeated under {listed(inits[1:])})" if len(inits) > 1 else ""
    rows.append(("Initialisation", f"{inits[0] if inits else MISSING}{again}"))
    if record.test_windows:
        word = "pairs" if names == ("pairs",) else "windows"
        documents = "" if word == "pairs" else f" of {grouped(record.test_documents)} documents"
        rows.append(("Test", f"{grouped(record.test_windows)} {word}{documents}"))
    rows.append(("Scored on", scored_on(record)))
    return rows


def _corpus(record: StudyRecord) -> str:
    """Its name, its size, and what of it no arm reads."""
    name = value_text(record.data.get("name") or (record.study.get("data") or {}).get("corpus"))
    splits = record.data.get("splits") or {}
    total = sum(split.get("bytes") or 0 for split in splits.values())
    text = f"{name}, {compact(total)}B of text" if total else name
    left_out = max((int(arm.audit.get("documents_left_out") or 0) for arm in record.base_arms), default=0)
    what = "pairs longer than the window" if "pairs" in objectives(record) else "documents too short"
    return f"{text}; {grouped(left_out)} training {what} left out" if left_out else text


def seed_text(seeds: Sequence[int]) -> str:
    """`0 to 4`, or the seeds one by one."""
    if len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def guide(record: StudyRecord) -> tuple[tuple[str, str], ...]:
    """How to read a verdict, a heading and a paragraph each."""
    claimed = {claim.metric for claim in record.claims}
    loss = "It is the loss of the arm it is set against, minus the loss of the arm"
    share = "the accuracy of the arm, minus that of the arm it is set against"
    if not claimed & set(SHARES):
        means, better = loss, "Lower loss is better."
    elif claimed <= set(SHARES):
        means, better = f"It is {share}", f"Higher is better. {_shares()}"
    else:
        means, better = f"{loss}; of accuracies, {share}", f"Lower loss is better, and higher accuracy. {_shares()}"
    batches = "same batches, " if len(objectives(record)) == 1 else ""
    positive = f"{means}, paired seed by seed: same start, {batches}same test windows. {better}"
    first, *others = _GUIDE
    return (
        ("An improvement is positive.", positive),
        first,
        ("When seeds stopped.", stopping_text(record)),
        *others,
    )


def _shares() -> str:
    meanings = listed(f"{METRICS[name].quantity} is the {METRICS[name].unit}" for name in SHARES)
    return f"{meanings[0].upper()}{meanings[1:]} that greedy decoding would get right, given what stands before."


_GUIDE = (
    (
        "The interval is simultaneous.",
        "It is widened so that, over the whole study, the chance that even one interval misses its true value is at most "
        "what the confidence leaves. More claims mean wider intervals.",
    ),
    (
        "The margin was set before the run.",
        "It is the smallest difference that would matter to its author. A claim is supported or refuted only when the "
        "whole interval lies on one side of it; verdict and interval can never contradict each other.",
    ),
    (
        "Undecided is a result.",
        "It says that this budget cannot tell, what it still rules out, and how many seeds would probably do. No "
        "significant difference is not the same as no difference: that needs the interval inside the margin.",
    ),
    (
        "Text like it, or this test set.",
        "“Text like it” treats seeds and test documents as samples, so the interval speaks for new seeds and new text of "
        "the same kind. “This test set” treats only the seeds so and is narrower.",
    ),
    (
        "The scope is part of the answer.",
        "Initialisation, learning rate and budget can change a verdict, even its sign. That is why the main contrasts "
        "can be repeated under a second initialisation, shown beside the first.",
    ),
)
