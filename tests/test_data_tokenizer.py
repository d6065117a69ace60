"""Tokens are text without loss, and the same on every machine load."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import corpora
from paribus.data.tokenizer import (
    END,
    PIECE,
    SMALLEST,
    UNKNOWN,
    Tokenizer,
    byte_tokenizer,
    cut_pieces,
    train_bpe,
    train_words,
)
from paribus.errors import DataError

TEXTS = corpora.documents(60)
BPE = train_bpe(TEXTS, 600)
BYTES = byte_tokenizer()
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.text(st.sampled_from(f"{END} a\n\t\u3000é语'"))


@pytest.mark.parametrize("tokenizer", [BPE, BYTES], ids=["bpe", "bytes"])
@given(text=ANY_TEXT)
@settings(deadline=None)
def test_decoding_gives_back_any_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.token_bytes[ids].sum() == len(text.encode())
    assert Tokenizer.end not in ids


def test_text_that_spells_the_end_is_not_the_end(tmp_path: Path) -> None:
    BPE.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert Tokenizer.end not in loaded.encode(f"a{END}b")
    assert BPE.bpe.token_to_id(END) == Tokenizer.end == 0
    assert BPE.token_bytes[0] == 0


def test_saving_and_loading_changes_nothing(tmp_path: Path) -> None:
    BPE.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.vocabulary == BPE.vocabulary == 600
    for text in TEXTS[:5]:
        assert loaded.encode(text).tolist() == BPE.encode(text).tolist()


def test_bytes_are_the_bpe_without_a_merge() -> None:
    text = "".join(chr(code) for code in range(0x250)) + "语言🦜"
    assert BYTES.vocabulary == SMALLEST
    assert BYTES.encode(text).tolist() == [byte + 1 for byte in text.encode()]
    assert BYTES.encode(text).tolist() == BYTES.bpe.encode(text).ids


def test_decoding_agrees_with_the_tokenizers_library() -> None:
    ids = np.random.default_rng(0).integers(1, BPE.vocabulary, 3000)
    assert BPE.decode(ids.tolist()) == BPE.bpe.decode(ids.tolist())


def test_long_text_encodes_in_pieces_as_it_would_whole() -> None:
    text = " ".join(corpora.documents(200, seed=1))
    assert len(text.encode()) > 3 * PIECE
    assert BPE.encode(text).tolist() == BPE.bpe.encode(text).ids


@given(st.integers(0, 2**32), st.sampled_from(["", " ", "\n", "\u3000 "]))
@settings(max_examples=30, deadline=None)
def test_pieces_are_valid_bounded_and_join_to_the_text(seed: int, mark: str) -> None:
    generator = random.Random(seed)
    text = mark.join(generator.choice("aé语🦜") * generator.randint(1, 9000) for _ in range(60))
    data = text.encode()
    pieces = list(cut_pieces(lambda offset, size: data[offset : offset + size], 0, len(data)))
    assert b"".join(pieces) == data
    assert all(0 < len(piece) <= PIECE and piece.decode() for piece in pieces)


def test_training_gives_the_same_vocabulary_in_any_process_and_with_any_number_of_threads() -> None:
    script = (
        "import corpora, hashlib; from paribus.data.tokenizer import train_bpe;"
        "print(hashlib.sha256(train_bpe(corpora.documents(60), 600).bpe.to_str().encode()).hexdigest())"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": path, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads},
            check=True,
            stdout=subprocess.PIPE,
        ).stdout
        for threads in ("1", "2", "5")
    }
    assert len(found) == 1
    assert train_bpe(corpora.documents(60), 600).bpe.to_str() == BPE.bpe.to_str()


def test_text_without_blanks_stops_the_sample_before_memory_fills() -> None:
    generator = random.Random(0)
    read = 0

    def texts() -> object:
        nonlocal read
        for _ in range(400):
            read += 1
            yield "".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=PIECE))

    tokenizer = train_bpe(texts(), 300)  # type: ignore[arg-type]
    assert tokenizer.vocabulary == 300
    assert read < 200


def test_a_small_corpus_gives_the_vocabulary_it_can() -> None:
    assert SMALLEST <= train_bpe(["ab ab ab"], 5000).vocabulary < 300


def test_a_vocabulary_without_room_for_all_bytes_is_refused() -> None:
    with pytest.raises(DataError, match=r"data\.vocabulary = 256: .* at least 257"):
        train_bpe(TEXTS, 256)


WORDS = train_words(["the cat sat on the mat", "naïve 语言\tthe dog", f"a {END} b"])


@given(st.lists(st.sampled_from(["the", "cat", "naïve", "语言", "dog"]), min_size=1))
def test_words_between_single_spaces_come_back_as_they_were(words: list[str]) -> None:
    text = " ".join(words)
    ids = WORDS.encode(text)
    assert len(ids) == len(words)
    assert WORDS.decode(ids) == text
    assert WORDS.token_bytes[ids].sum() == len(text.encode()) + 1


def test_an_unknown_word_and_one_that_spells_a_special_token_are_the_unknown_token() -> None:
    ids = WORDS.encode(f"the bird {END} sat")
    assert ids.tolist()[1:3] == [WORDS.unknown] * 2
    assert WORDS.decode(ids) == f"the {UNKNOWN} {UNKNOWN} sat"
    assert WORDS.token_bytes[[WORDS.end, WORDS.unknown]].tolist() == [0, 0]


def test_every_word_has_one_id_in_alphabetical_order() -> None:
    words = sorted({"the", "cat", "sat", "on", "mat", "naïve", "语言", "dog", "a", "b"})
    assert [WORDS.decode([number]) for number in range(2, WORDS.vocabulary)] == words


def test_transformers_reads_words_as_we_do(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    WORDS.save(tmp_path / "tokenizer.json")
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    ours = Tokenizer.load(tmp_path / "tokenizer.json")
    for text in ("the cat  sat", "naïve\n语言\u3000dog", "a\x1cb the", "unheard of"):
        assert theirs(text)["input_ids"] == ours.encode(text).tolist()
        assert theirs.decode(theirs(text)["input_ids"]) == ours.decode(ours.encode(text))
    assert theirs.vocab_size == ours.vocabulary


def test_text_that_is_not_made_of_words_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="has 2000 characters, more than 1024: use 'bpe'"):
        train_words(["x" * 2000])
    monkeypatch.setattr("paribus.data.tokenizer.MOST_WORDS", 100)
    with pytest.raises(DataError, match="more than 100 distinct words: use 'bpe'"):
        train_words(" ".join(map(str, range(50 * n, 50 * n + 50))) for n in range(3))
