"""Objectives: pure functions of a window and its random bits, and what each promises about what is seen and what is asked."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import paribus.data.batches  # noqa: F401 - registers all objectives
from paribus.data.counters import random_bits, stable_key
from paribus.data.denoising import segmentation
from paribus.data.objectives import IGNORE, OBJECTIVES, Pairs, Text, with_input_loss
from paribus.data.shapes import Shape, noise_of, shapes_of, special_tokens_of
from paribus.data.specials import Specials
from paribus.spec.objective import SHORTEST, Objective

WORDS = 300
CORRUPTING = ("span_corruption", "mlm", "ul2")
Ints = npt.NDArray[np.int64]


def objectives(*names: str) -> st.SearchStrategy[Objective]:
    density = st.floats(0.02, 0.9)
    return st.builds(
        Objective,
        name=st.sampled_from(names),
        noise_density=density,
        mean_span=st.floats(1, 20),
        densities=st.lists(density, min_size=7, max_size=7),
        mean_spans=st.lists(st.floats(1, 70), min_size=7, max_size=7),
    )


def specials_of(objective: Objective, window: int) -> Specials:
    return Specials(WORDS, special_tokens_of(objective, window))


def drawn(shape: Shape, seed: int, rows: int = 4) -> Text:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, WORDS, size=(rows, shape.tokens))
    return Text(tokens, np.full(rows, shape.tokens), random_bits(stable_key("test"), seed * rows + np.arange(rows)))


def made(objective: Objective, shape: Shape, text: Text, window: int) -> Pairs:
    return OBJECTIVES[objective.name](text, shape, objective, specials_of(objective, window))


def equal(one: Pairs, other: Pairs) -> bool:
    return all(
        (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b))
        for a, b in zip(one, other, strict=True)
    )


windows = st.integers(SHORTEST, 300)
seeds = st.integers(0, 10**6)


@settings(max_examples=60, deadline=None)
@given(objectives("lm", "prefix_lm", *CORRUPTING), windows, seeds)
def test_a_pair_depends_on_its_own_window_and_bits_alone(objective: Objective, window: int, seed: int) -> None:
    for shape in shapes_of(objective, window):
        text = drawn(shape, seed)
        together = made(objective, shape, text, window)
        alone = made(objective, shape, Text(*(array[2:3] for array in text)), window)
        assert equal(alone, Pairs(*(None if array is None else array[2:3] for array in together)))
        assert equal(together, made(objective, shape, text, window))


@settings(max_examples=60, deadline=None)
@given(objectives("lm", "prefix_lm", *CORRUPTING), windows, seeds)
def test_pairs_have_the_shape_that_was_declared_and_fit_the_window(
    objective: Objective, window: int, seed: int
) -> None:
    shapes = shapes_of(objective, window)
    assert sum({shape.kind: shape.share for shape in shapes}.values()) == pytest.approx(1)
    for shape in shapes:
        pairs = made(objective, shape, drawn(shape, seed), window)
        assert pairs.input.shape == (4, shape.input)
        assert pairs.target.shape == pairs.labels.shape == (4, shape.target)
        assert shape.input + shape.target <= shape.tiling.tokens - (not shape.tiling.whole) <= window
        highest = WORDS + special_tokens_of(objective, window)
        assert max(pairs.input.max(initial=0), pairs.target.max(initial=0), pairs.labels.max(initial=0)) < highest


@settings(max_examples=80, deadline=None)
@given(objectives("span_corruption", "ul2"), windows, seeds)
def test_input_and_target_of_span_corruption_are_the_text_again(objective: Objective, window: int, seed: int) -> None:
    specials = specials_of(objective, window)
    sentinels = {specials.sentinel(i): i for i in range(specials.count - 5)}
    for shape in shapes_of(objective, window):
        text = drawn(shape, seed)
        pairs = made(objective, shape, text, window)
        for row in range(len(text.tokens)):
            assert pairs.target[row, 0] == specials.start
            assert (pairs.target[row, 1:] == pairs.labels[row, :-1]).all()
            spans: dict[int, list[int]] = {}
            for token in pairs.labels[row].tolist():
                if token in sentinels:
                    spans[sentinels[token]] = []
                else:
                    spans[max(spans)].append(token)
            assert list(spans) == list(range(shape.spans + 1))
            assert spans.pop(shape.spans) == []
            assert all(spans.values())
            source = pairs.input[row].tolist()
            if shape.mode:
                assert source.pop(0) == specials.mode(shape.mode)
            whole = [t for token in source for t in (spans.pop(sentinels[token]) if token in sentinels else [token])]
            assert whole == text.tokens[row].tolist()
            assert not spans


def t5_segments(items: int, segments: int, rng: np.random.Generator) -> list[int]:
    """T5's own way (`random_spans_noise_mask`): shuffle the marks of where a segment begins."""
    marks = np.arange(items - 1) < segments - 1
    rng.shuffle(marks)
    return np.bincount(np.cumsum(np.concatenate([[0], marks]))).tolist()


def test_span_lengths_are_distributed_as_t5s() -> None:
    count, items, segments = 20_000, 12, 4
    ours = segmentation(random_bits(stable_key("spans"), np.arange(count)), 0, items, segments)
    assert (ours.sum(1) == items).all()
    assert (ours > 0).all()
    rng = np.random.default_rng(0)
    theirs = np.array([t5_segments(items, segments, rng) for _ in range(count)])
    for place in range(segments):
        a, b = (np.bincount(some[:, place], minlength=items) / count for some in (ours, theirs))
        assert np.abs(a - b).max() < 0.015
    first = np.unique(ours, axis=0, return_counts=True)[1]
    assert len(first) == 165  # 11 choose 3 divisions, each equally likely
    assert 60 < first.min() <= first.max() < 190


@given(st.integers(2, 2000), st.floats(0.01, 0.99), st.floats(1, 70))
def test_as_many_tokens_and_spans_are_cut_out_as_t5_says(length: int, density: float, mean: float) -> None:
    noise, spans = noise_of(length, density, mean)
    expected = min(max(int(np.round(length * density)), 1), length - 1)
    assert noise == expected
    assert spans == min(max(int(np.round(expected / mean)), 1), length - expected, expected)


@settings(max_examples=60, deadline=None)
@given(objectives("mlm"), windows, seeds)
def test_no_token_is_visible_under_its_mask(objective: Objective, window: int, seed: int) -> None:
    specials = specials_of(objective, window)
    for shape in shapes_of(objective, window):
        text = drawn(shape, seed)
        pairs = made(objective, shape, text, window)
        assert pairs.input_labels is not None
        chosen, masked = pairs.input_labels != IGNORE, pairs.input == specials.mask
        assert (chosen.sum(1) == max(1, round(shape.tokens * objective.noise_density))).all()
        assert (pairs.input_labels[chosen] == text.tokens[chosen]).all()
        assert not (masked & ~chosen).any()
        assert (pairs.input[~chosen] == text.tokens[~chosen]).all()
        # What stands under a mask changes nothing of what is seen.
        other = text._replace(tokens=np.where(masked, (text.tokens + 1) % WORDS, text.tokens))
        assert (made(objective, shape, other, window).input == pairs.input).all()


def test_of_the_chosen_tokens_80_percent_are_masked_10_random_and_10_kept() -> None:
    objective = Objective(name="mlm")
    shape = shapes_of(objective, 256)[0]
    text = drawn(shape, 0, rows=2000)
    pairs = made(objective, shape, text, 256)
    assert pairs.input_labels is not None
    chosen = pairs.input_labels != IGNORE
    assert chosen.mean() == pytest.approx(0.15, abs=0.002)
    assert np.abs(chosen.mean(0) - 0.15).max() < 0.04  # every place alike
    seen, true = pairs.input[chosen], text.tokens[chosen]
    assert (seen == WORDS + 1).mean() == pytest.approx(0.8, abs=0.01)
    assert (seen == true).mean() == pytest.approx(0.1 + 0.1 / WORDS, abs=0.01)
    assert len(set(seen[(seen != true) & (seen < WORDS)].tolist())) > 0.95 * WORDS


@given(objectives("ul2"), windows)
def test_the_denoisers_of_ul2_have_their_modes_densities_and_spans(objective: Objective, window: int) -> None:
    for shape in shapes_of(objective, window):
        assert shape.mode == objective.denoisers[shape.kind]
        density, mean = objective.densities[shape.kind], objective.mean_spans[shape.kind]
        assert shape.noise == noise_of(shape.tokens, density, mean)[0]
        if shape.mode == "S":
            assert shape.spans == 1
        elif shape.spans < min(shape.noise, shape.tokens - shape.noise):
            assert shape.spans == max(1, round(shape.noise / mean))


def test_the_sequential_denoiser_cuts_out_the_end_of_the_text() -> None:
    objective = Objective(name="ul2", denoisers=["S"], densities=[0.25], mean_spans=[1.0])
    shape = shapes_of(objective, 64)[0]
    text = drawn(shape, 0)
    pairs = made(objective, shape, text, 64)
    kept = shape.tokens - shape.noise
    assert (pairs.input[:, 1:-1] == text.tokens[:, :kept]).all()
    assert (pairs.labels[:, 1:-1] == text.tokens[:, kept:]).all()


@pytest.mark.parametrize(("density", "mean", "spans"), [(0.15, 64.0, 1), (0.5, 64.0, 2), (0.15, 3.0, 11)])
def test_the_other_denoisers_of_ul2_cut_out_spans_anywhere(density: float, mean: float, spans: int) -> None:
    """A single span that always stood at the end would be the sequential denoiser's. Each arrangement is equally likely."""
    objective = Objective(name="ul2", denoisers=["X"], densities=[density], mean_spans=[mean])
    shape = shapes_of(objective, 256)[0]
    assert shape.spans == spans
    text = drawn(shape, 0, rows=4000)
    specials, source = specials_of(objective, 256), made(objective, shape, text, 256).input[:, 1:]
    gaps = shape.tokens - shape.noise + 1  # between the tokens kept, and before and after them
    begins, ends = (source[:, edge] == specials.sentinel(span) for edge, span in ((0, 0), (-1, spans - 1)))
    assert begins.mean() == pytest.approx(spans / gaps, abs=0.02)
    assert ends.mean() == pytest.approx(spans / gaps, abs=0.02)
    kept_before = np.argmax(source == specials.sentinel(0), axis=1)
    assert kept_before.mean() == pytest.approx((gaps - spans) / (spans + 1), rel=0.06)


@given(windows)
def test_each_document_length_from_8_tokens_on_has_one_shape_of_each_kind(window: int) -> None:
    for name in CORRUPTING:
        shapes = shapes_of(Objective(name=name), window)
        for kind in {shape.kind for shape in shapes}:
            tilings = [shape.tiling for shape in shapes if shape.kind == kind]
            for length in {SHORTEST, 9, window // 2, window - 1, window, 5 * window} - set(range(SHORTEST)):
                fitting = [t for t in tilings if t.least <= length and (t.below is None or length < t.below)]
                assert len(fitting) == 1 or length < min(t.least for t in tilings) < 2 * SHORTEST


@settings(max_examples=40, deadline=None)
@given(objectives("prefix_lm", "span_corruption", "ul2"), windows, seeds)
def test_with_loss_on_all_each_input_token_but_the_first_is_predicted_once(
    objective: Objective, window: int, seed: int
) -> None:
    shape = shapes_of(objective, window)[0]
    assume(shape.input > 0)
    pairs = with_input_loss(made(objective, shape, drawn(shape, seed), window))
    assert pairs.input_labels is not None
    assert (pairs.input_labels[:, :-1] == pairs.input[:, 1:]).all()
    assert (pairs.input_labels[:, -1] == IGNORE).all()


def test_before_padded_inputs_nothing_is_predicted() -> None:
    pairs = Pairs(
        np.array([[0, 0, 5, 6], [1, 2, 3, 4]]), np.array([[9], [9]]), np.array([[7], [8]]), None, np.array([2, 0])
    )
    labels = with_input_loss(pairs).input_labels
    assert labels is not None
    assert labels.tolist() == [[IGNORE, IGNORE, 6, IGNORE], [2, 3, 4, IGNORE]]
