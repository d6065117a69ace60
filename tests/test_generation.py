"""Generation: what a cache decodes is what full passes say, batches change nothing, draws follow their distribution."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from paribus.data.prompts import Prompt, prompt_of
from paribus.data.rendering import render
from paribus.data.specials import Specials
from paribus.data.tokenizer import Tokenizer, byte_tokenizer, train_words
from paribus.errors import UserError
from paribus.generation.continuing import Continuation, generate, room_after
from paribus.generation.filling import fill
from paribus.generation.sampling import Sampling, choose, probabilities
from paribus.models import decoding
from paribus.models.decoding import Steps
from paribus.models.transformer import Transformer
from paribus.spec.objective import Objective
from settings import POSITIONS, VOCABULARY, Case, cases, interface, over_the_grid, scrambled, small_model, tokens

NEW = 5
TOLERANCE = 1e-4


def prompt(*lengths: int, seed: int = 0, stop: frozenset[int] = frozenset()) -> Prompt:
    source, given = (tuple(tokens(length, seed=seed + place).tolist()) for place, length in enumerate(lengths))
    return Prompt(source, given, stop)


def regret(arm: Transformer, asked: Prompt, answer: list[int], seed: int = 0) -> float:
    """By how much full passes over the sequence alone prefer other tokens than those of a greedy answer, at most."""
    target = torch.tensor([[*asked.given, *answer]])
    source = torch.tensor([asked.input], dtype=torch.long)
    with torch.no_grad():
        logits = arm(source, target[:, :-1], None, torch.tensor([seed]))[0, len(asked.given) - 1 :]
    chosen = logits[torch.arange(len(answer)), torch.tensor(answer)]
    scale = max(1.0, float(logits.abs().max()))
    return float((logits.amax(-1) - chosen).max()) / scale


def prove_that_greedy_answers_are_those_of_full_passes(case: Case, lengths: list[tuple[int, int]]) -> None:
    arm = case.arm()
    asked = [prompt(*pair, seed=3 * row) for row, pair in enumerate(lengths)]
    for one, answer in zip(asked, generate(arm, asked, NEW, seed=7), strict=True):
        assert len(answer.tokens) == NEW
        assert regret(arm, one, answer.tokens, 7) <= TOLERANCE


@over_the_grid()
@given(
    cases(target=True, padded=False, inputs=0),
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3)), min_size=1, max_size=3),
)
def test_greedy_answers_are_those_of_full_passes_in_batches_of_any_lengths(
    case: Case, lengths: list[tuple[int, int]]
) -> None:
    with case.computing():
        prove_that_greedy_answers_are_those_of_full_passes(case, lengths)


def misread(steps: Any) -> Any:
    return lambda self, position: steps(self, min(position + 1, self.positions.stop - 1))


def test_the_proof_fails_when_steps_see_one_position_too_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Steps, "at", misread(Steps.at))
    model = small_model(position="alibi", memory="cross_attention")
    case = Case(model, interface(), tokens(1, 0), tokens(1, 1), None, torch.zeros(1, dtype=torch.long), False)
    with pytest.raises((AssertionError, RuntimeError)):
        prove_that_greedy_answers_are_those_of_full_passes(case, [(4, 1), (2, 1)])


def test_no_mask_or_bias_is_built_per_token(monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0

    class Counted(decoding.Steps):
        def __init__(self, *arguments: Any) -> None:
            nonlocal made
            made += 1
            super().__init__(*arguments)

    monkeypatch.setattr("paribus.models.transformer.Steps", Counted)
    generate(scrambled(small_model(position="alibi")), [prompt(4, 1), prompt(2, 2)], 12)
    assert made == 1


def test_a_batch_gives_what_each_prompt_gives_alone() -> None:
    arm = scrambled(small_model(input_attention="forward_backward_heads", kv_heads=2))
    asked = [prompt(6, 1), prompt(2, 3, seed=5), prompt(0, 2, seed=9)]
    assert generate(arm, asked, 8) == [generate(arm, [one], 8)[0] for one in asked]


def test_each_sequence_ends_before_its_own_stop_token() -> None:
    arm = scrambled(small_model())
    asked = [prompt(3, 1), prompt(4, 1, seed=5)]
    free = generate(arm, asked, 12)
    stops = [answer.tokens[4] for answer in free]
    ended = generate(arm, [one._replace(stop=frozenset({stop})) for one, stop in zip(asked, stops, strict=True)], 12)
    for answer, whole, stop in zip(ended, free, stops, strict=True):
        assert answer == Continuation(whole.tokens[: whole.tokens.index(stop)], stop)
    both = generate(arm, asked, 12, stop=stops)
    assert all(not set(stops) & set(answer.tokens) for answer in both)


def test_tokens_are_heard_as_they_come_and_the_listener_can_end_a_sequence() -> None:
    arm = scrambled(small_model())
    heard: list[tuple[int, int]] = []

    def listen(index: int, token: int) -> bool:
        heard.append((index, token))
        return index == 1 and len(heard) >= 4

    first, second = generate(arm, [prompt(3, 1), prompt(4, 1, seed=5)], 6, listen=listen)
    assert [token for index, token in heard if index == 0] == first.tokens
    assert [token for index, token in heard if index == 1] == second.tokens
    assert (len(first.tokens), len(second.tokens)) == (6, 2)


def test_sampling_is_a_function_of_the_seed() -> None:
    arm = scrambled(small_model())
    asked = [prompt(3, 1)] * 3
    first = generate(arm, asked, 10, temperature=1.0, seed=4)
    assert first == generate(arm, asked, 10, temperature=1.0, seed=4)
    assert first != generate(arm, asked, 10, temperature=1.0, seed=5)
    assert len({tuple(answer.tokens) for answer in first}) == 3


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
def test_what_is_drawn_follows_softmax(temperature: float) -> None:
    arm, asked, draws = scrambled(small_model()), prompt(3, 2), 4000
    with torch.no_grad():
        logits = arm(torch.tensor([asked.input]), torch.tensor([asked.given]))[0, -1].double()
    expected = (logits / temperature).softmax(-1).numpy() * draws
    answers = generate(arm, [asked] * draws, 1, temperature=temperature, seed=1)
    counts = np.bincount([answer.tokens[0] for answer in answers], minlength=VOCABULARY)
    rarest = int(expected.argmin())  # and all others too rare for the statistic, as one
    often = (expected >= 5) & (np.arange(VOCABULARY) != rarest)
    observed, wanted = (np.append(x[often], x[~often].sum()) for x in (counts, expected))
    assert stats.chisquare(observed, wanted).pvalue > 1e-3


def kept(logits: list[float], **options: Any) -> set[int]:
    chances = probabilities(torch.tensor([logits]), Sampling(1.0, **options))[0]
    assert float(chances.sum()) == pytest.approx(1)
    return set(torch.nonzero(chances)[:, 0].tolist())


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12), st.integers(1, 14), st.floats(0.01, 1))
def test_top_k_and_top_p_keep_exactly_the_right_tokens(logits: list[float], k: int, p: float) -> None:
    logits = torch.tensor(logits).tolist()  # as float32 has them
    order = sorted(range(len(logits)), key=lambda token: -logits[token])
    exact = [math.exp(logit) for logit in logits]
    chances = [value / sum(exact) for value in exact]
    few = kept(logits, top_k=k)
    assert len(few) == min(k, len(logits))
    assert min(logits[token] for token in few) >= max((logits[t] for t in set(order) - few), default=-math.inf)
    nucleus = kept(logits, top_p=p)
    before_last = sum(sorted((chances[token] for token in nucleus), reverse=True)[:-1])
    assert before_last < p + 1e-9
    assert len(nucleus) == len(logits) or sum(chances[token] for token in nucleus) >= p - 1e-9
    assert kept(logits, top_k=k, top_p=p) <= few


def test_a_draw_takes_the_token_in_whose_share_it_lies() -> None:
    logits = torch.tensor([[0.2, 0.5, 0.3]]).log().expand(6, 3)
    uniform = torch.tensor([0.0, 0.19, 0.21, 0.69, 0.71, 1 - 1e-12], dtype=torch.float64)
    assert choose(logits, Sampling(1.0), uniform).tolist() == [0, 0, 1, 1, 2, 2]
    assert choose(logits, Sampling(1.0, top_k=1), uniform).tolist() == [1] * 6


@pytest.mark.parametrize(
    "options,words",
    [
        ({"temperature": -1}, "temperature -1"),
        ({"temperature": math.nan}, "temperature nan"),
        ({"temperature": 1, "top_k": 0}, "top-k 0"),
        ({"temperature": 1, "top_p": 3}, "top-p 3: should be above 0 and at most 1"),
        ({"top_p": 0.9}, "temperature 0"),
    ],
)
def test_numbers_out_of_range_are_refused_in_one_line(options: dict[str, float], words: str) -> None:
    with pytest.raises(UserError, match=words):
        generate(scrambled(small_model()), [prompt(1, 1)], 3, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("fields", [{}, {"memory": "cross_attention", "cross_position": "restart"}], ids=str)
def test_learned_positions_end_where_their_table_ends(fields: dict[str, str]) -> None:
    arm = scrambled(small_model(position="learned", **fields))
    asked = prompt(20, 2)
    room = room_after(arm, asked)
    assert room == POSITIONS - (2 if fields else 22) + 1
    short = [prompt(3, 2), asked]
    assert len(generate(arm, short, room)[1].tokens) == room
    with pytest.raises(UserError, match=f"learned positions end at {POSITIONS} .* at most {room} can follow"):
        generate(arm, short, room + 1)
    with pytest.raises(UserError, match="the prompt has 40"):
        generate(arm, [prompt(40, 1) if fields else prompt(38, 2)], 1)


# ---- Masks


def masked(length: int, *places: int, seed: int = 0) -> list[int]:
    text = (tokens(length, seed=seed) % (VOCABULARY - 1)).tolist()
    return [MASK if place in places else token for place, token in enumerate(text)]


MASK = VOCABULARY - 1


def filled_by_full_passes(arm: Transformer, text: list[int]) -> list[int]:
    text = list(text)
    while MASK in text:
        with torch.no_grad():
            chances = arm(torch.tensor([text]), tokens(1, 0))[0, :, :MASK].softmax(-1)
        best = {place: chances[place].max() for place, token in enumerate(text) if token == MASK}
        surest = max(best, key=lambda place: float(best[place]))
        text[surest] = int(chances[surest].argmax())
    return text


@pytest.mark.parametrize("position", ["rope", "learned"])
@pytest.mark.parametrize("rule", ["bidirectional", "forward_backward_heads"])
def test_masks_are_filled_surest_first_and_each_sees_those_before(rule: str, position: str) -> None:
    arm = scrambled(small_model(input_attention=rule, position=position), outside=interface(True, target=False))
    texts = [masked(9, 1, 4, 8), masked(5, 0, 1, seed=1), masked(6, seed=2), [MASK]]
    assert fill(arm, texts, MASK) == [filled_by_full_passes(arm, text) for text in texts]
    drawn = fill(arm, texts, MASK, temperature=1.0, seed=1)
    assert drawn == fill(arm, texts, MASK, temperature=1.0, seed=1)
    assert all(MASK not in text for text in drawn)


def test_an_arm_that_fills_masks_continues_nothing_and_the_other_way_round() -> None:
    with pytest.raises(UserError, match="no target side"):
        generate(scrambled(small_model(), outside=interface(True, target=False)), [prompt(1, 1)], 1)
    with pytest.raises(UserError, match="continues a text"):
        fill(scrambled(small_model()), [[MASK]], MASK)


# ---- Prompts


def asked(name: str, text: str, tokenizer: Tokenizer | None = None) -> tuple[str, str, set[str]]:
    tokenizer = tokenizer or byte_tokenizer()
    specials = Specials(tokenizer.vocabulary, 8)
    made = prompt_of(Objective(name=name), text, tokenizer, specials)  # type: ignore[arg-type]
    return (
        render(made.input, tokenizer, specials),
        render(made.given, tokenizer, specials),
        {render([token], tokenizer, specials) for token in made.stop},
    )


def test_each_objective_asks_as_it_was_trained() -> None:
    end, sentinels = {"<|end|>"}, {f"<|sentinel_{index}|>" for index in range(3)}
    assert asked("lm", "abc") == ("", "abc", end)
    assert asked("prefix_lm", "abc") == ("ab", "c", end)
    assert asked("prefix_lm", "c") == ("", "c", end)
    assert asked("pairs", "abc") == ("abc", "<|start|>", end)
    assert asked("span_corruption", "abc") == ("abc<|sentinel_0|>", "<|start|><|sentinel_0|>", end | sentinels)
    assert asked("ul2", "abc") == ("<|S|>abc<|sentinel_0|>", "<|start|><|sentinel_0|>", end | sentinels)
    assert asked("mlm", "a <|mask|><|mask|> c") == ("a<|mask|><|mask|> c", "", set())
    assert asked("mlm", "red <|mask|> blue", train_words(["red green blue"])) == ("red <|mask|> blue", "", set())


@pytest.mark.parametrize("name", ["lm", "prefix_lm", "pairs", "mlm"])
def test_an_objective_that_needs_a_text_says_so(name: str) -> None:
    with pytest.raises(UserError, match=name):
        asked(name, "")


def test_a_text_may_spell_special_tokens_where_they_mean_nothing() -> None:
    assert Counter(asked("lm", "<|mask|>")[1])["|"] == 2
