"""Which metrics a study's report shows, and on what they were measured."""

from collections import Counter

from paribus.evaluation.metrics import METRICS, Metric
from paribus.records.reading import StudyRecord
from paribus.spec.evaluation import Evaluation

LOSSES = tuple(name for name, metric in METRICS.items() if not metric.higher_is_better)
SHARES = tuple(name for name, metric in METRICS.items() if metric.higher_is_better)

_TARGETS = {
    "lm": "every token of a window, given those before it",
    "prefix_lm": "the rest of a window, given its first part",
    "span_corruption": "the spans cut out of a window",
    "mlm": "the [MASK] positions of a window",
    "ul2": "what the denoisers cut out of a window",
    "pairs": "the target of each pair, given its input",
}


def main_metric(record: StudyRecord) -> Metric:
    """The metric that most claims are about."""
    claimed = Counter(claim.metric for claim in record.claims).most_common(1)
    return METRICS[claimed[0][0]] if claimed else main_loss(record)


def main_loss(record: StudyRecord) -> Metric:
    """The loss that most claims are about, else bits per byte."""
    claimed = Counter(claim.metric for claim in record.claims if claim.metric in LOSSES).most_common(1)
    return METRICS[claimed[0][0] if claimed else "bits_per_byte"]


def charted(record: StudyRecord) -> tuple[Metric, ...]:
    """The metrics that charts offer: the main one, and the loss where that is no loss."""
    return tuple(dict.fromkeys((main_metric(record), main_loss(record))))


def tabled(record: StudyRecord) -> tuple[Metric, ...]:
    """The metrics of the results table: the main one, all others that are claimed, the loss, and accuracies of pairs."""
    names = [main_metric(record).name, *(claim.metric for claim in record.claims), main_loss(record).name]
    return tuple(METRICS[name] for name in dict.fromkeys([*names, *shares(record)]))


def shares(record: StudyRecord) -> tuple[str, ...]:
    """The accuracies that say something: those that are claimed, and both where whole targets can be right or wrong."""
    if "pairs" in objectives(record):
        return SHARES
    return tuple(name for name in SHARES if any(claim.metric == name for claim in record.claims))


def objectives(record: StudyRecord) -> tuple[str, ...]:
    """Names of the objectives that the arms train on."""
    return tuple(dict.fromkeys(str(arm.section("objective").get("name", "prefix_lm")) for arm in record.base_arms))


def scored_on(record: StudyRecord) -> str:
    """What the scores of all arms are about, in words."""
    sections = [arm.section("objective") for arm in record.base_arms]
    evaluation = record.base_arms[0].section("evaluation") if record.base_arms else {}
    differ = any(section != sections[0] for section in sections)
    if (evaluation.get("score_on") or ("continuation" if differ else "objective")) == "continuation":
        number = evaluation.get("continuation_tokens") or Evaluation().continuation_tokens
        return f"continuation: {number} tokens of a window, each given everything before it, the same for every arm"
    return _TARGETS.get(objectives(record)[0], objectives(record)[0]) if sections else "nothing"
