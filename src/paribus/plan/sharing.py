"""What all arms share because of what the objectives of all of them are: the vocabulary, and the task they are scored on."""

from collections.abc import Iterator, Sequence
from typing import Any

from paribus import spec
from paribus.data.shapes import special_tokens_of
from paribus.spec.objective import SHORTEST, Objective
from paribus.spec.problems import Problem, shown

# The fields that decide which pairs an objective makes of a window, and so what is scored.
_DECIDES: dict[str, tuple[str, ...]] = {
    "lm": (),
    "prefix_lm": ("splits", "split_weights"),
    "span_corruption": ("noise_density", "mean_span"),
    "mlm": ("noise_density", "masked", "random"),
    "ul2": ("denoisers", "densities", "mean_spans", "proportions"),
    "pairs": (),
}


def same_task(configs: Sequence[spec.Config]) -> bool:
    """Whether the objectives of all arms make the same pairs of a text, whatever loss they add on the input."""
    tasks = {repr((own.name, [getattr(own, field) for field in _DECIDES[own.name]])) for own in _objectives(configs)}
    return len(tasks) == 1


def shared_sections(study: spec.Study, configs: Sequence[spec.Config]) -> dict[str, Any]:
    """The sections `data` and `evaluation` of every arm, with what the study leaves open decided by all of them together."""
    data, evaluation = study.data, study.evaluation
    objectives = _objectives(configs)
    if data.special_tokens is None:
        needed = max(special_tokens_of(objective, data.window) for objective in objectives)
        data = data.model_copy(update={"special_tokens": needed})
    if data.pairs is None and any(objective.name == "pairs" for objective in objectives):
        data = data.model_copy(update={"pairs": True})
    score_on = evaluation.score_on or ("objective" if same_task(configs) else "continuation")
    changes: dict[str, Any] = {"score_on": score_on}
    if score_on == "continuation":
        changes["continuation_splits"] = evaluation.continuation_splits or study.objective.splits
    return {"data": data, "evaluation": evaluation.model_copy(update=changes)}


def sharing_problems(study: spec.Study, configs: Sequence[spec.Config]) -> Iterator[Problem]:
    """What is wrong with arms that are possible each by itself, but not together."""
    if not configs:
        return
    given = study.data.special_tokens
    objectives = _objectives(configs)
    needed, name = max((special_tokens_of(own, study.data.window), own.name) for own in objectives)
    if given is not None and given < needed:
        yield Problem(
            ("data", "special_tokens"), f"{name} needs {needed}; use at least so many, or leave it out", given
        )
    if same_task(configs):
        return
    names = list(dict.fromkeys(own.name for own in objectives))
    if "pairs" in names:
        others = ", ".join(shown(other) for other in names if other != "pairs")
        text = f"some arms have it and others {others}: they share no task to be scored on; use it for all arms, or for none"
        yield Problem(("objective", "name"), text, "pairs")
    elif study.evaluation.score_on == "objective":
        text = 'the arms differ in their objective, so they share no such task; use "continuation", or leave it out'
        yield Problem(("evaluation", "score_on"), text, "objective")
    elif study.data.window < SHORTEST:
        text = f"arms of different objectives need windows of at least {SHORTEST} tokens"
        yield Problem(("data", "window"), text, study.data.window)


def _objectives(configs: Sequence[spec.Config]) -> list[Objective]:
    return [config.objective for config in configs]
