"""A tokenizer.json from elsewhere: the ids of transformers, bytes that add up, and the same ids again after export."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from paribus.checkpoints.tokenizer_files import write_tokenizer
from paribus.data.specials import Specials
from paribus.data.store import prepare
from paribus.data.tokenizer import ForeignTokenizer, Tokenizer, train_bpe
from paribus.errors import DataError, UserError
from paribus.spec.data import Data

transformers = pytest.importorskip("transformers")

TEXT = "Some words to learn from, and 语言 too: words come again, with 12 numbers"
OTHER = "words again: 34 naïve numbers and 语 and 🦜 too"


def gpt2_like() -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    train = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([TEXT] * 3, train)
    return made


def llama_like() -> tokenizers.Tokenizer:
    """Blanks as U+2581, unknown characters as bytes, <s> before each text."""
    made = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    specials = ["<unk>", "<s>", "</s>"]
    train = trainers.BpeTrainer(vocab_size=120, special_tokens=specials, show_progress=False)
    made.train_from_iterator([TEXT] * 3, train)
    # The trainer does not make the tokens of bytes that Llama has after its special ones.
    stored = json.loads(made.to_str())
    old = sorted(stored["model"]["vocab"], key=stored["model"]["vocab"].get)
    kept = [token for token in old if token not in specials]
    tokens = [*specials, *(f"<0x{byte:02X}>" for byte in range(256)), *kept]
    stored["model"]["vocab"] = {token: number for number, token in enumerate(tokens)}
    made = tokenizers.Tokenizer.from_str(json.dumps(stored))
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return made


def bert_like() -> tokenizers.Tokenizer:
    """WordPiece of lower case, between [CLS] and [SEP]."""
    made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    train = trainers.WordPieceTrainer(vocab_size=120, special_tokens=specials, show_progress=False)
    made.train_from_iterator([TEXT] * 3, train)
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


KINDS: dict[str, tuple[Any, str]] = {
    "gpt2": (gpt2_like, "<|endoftext|>"),
    "llama": (llama_like, "</s>"),
    "bert": (bert_like, "[SEP]"),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path, Tokenizer]:
    made, end = KINDS[request.param]
    made().save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
    assert isinstance(tokenizer, ForeignTokenizer)
    assert tokenizer.bpe.id_to_token(tokenizer.end) == end
    return request.param, tmp_path / "tokenizer.json", tokenizer


def test_ids_are_those_of_transformers_without_what_it_adds(kind: tuple[str, Path, Tokenizer]) -> None:
    _, path, tokenizer = kind
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path))
    for text in (TEXT, OTHER):
        expected = theirs(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.encode(text).tolist() == expected
        assert tokenizer.decode(expected) == theirs.decode(expected, skip_special_tokens=True)


def test_bytes_of_ids_add_up_to_the_text(kind: tuple[str, Path, Tokenizer]) -> None:
    name, _, tokenizer = kind
    ids = tokenizer.encode(OTHER if name != "bert" else "some words again and numbers")
    count = int(tokenizer.token_bytes[ids].sum())
    if name == "gpt2":
        assert count == len(OTHER.encode())
    elif name == "llama":  # and the blank that it puts first
        assert count == len(OTHER.encode()) + 1
    else:
        assert count == len("some words again and numbers") + 1
    assert tokenizer.token_bytes[tokenizer.end] == 0


def test_an_exported_one_gives_the_same_ids(kind: tuple[str, Path, Tokenizer], tmp_path: Path) -> None:
    _, _, tokenizer = kind
    specials = Specials(tokenizer.vocabulary, 2)
    write_tokenizer(tmp_path / "out", tokenizer, specials, 64)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert theirs(OTHER)["input_ids"] == tokenizer.encode(OTHER).tolist()
    assert theirs.eos_token_id == tokenizer.end
    assert theirs.mask_token_id == specials.mask
    again = Tokenizer.load(tmp_path / "out" / "tokenizer.json")
    assert again.encode(OTHER).tolist() == tokenizer.encode(OTHER).tolist()


def test_a_corpus_is_read_with_it_and_again_when_it_changes(kind: tuple[str, Path, Tokenizer], tmp_path: Path) -> None:
    name, path, tokenizer = kind
    text = tmp_path / "text"
    text.mkdir()
    for number in range(40):
        (text / f"{number}.txt").write_text(f"{number} {OTHER} {number * 7}")
    data = Data(corpus=str(text), tokenizer=str(path), window=16, special_tokens=3)
    corpus = prepare(data)
    assert corpus.vocabulary == tokenizer.vocabulary + 3
    train = corpus.split("train")
    first = train.tokens[train.starts[0] : train.starts[1]]
    assert first[-1] == tokenizer.end
    assert (name == "bert") or OTHER in corpus.tokenizer.decode(first[:-1])
    train_bpe([TEXT], 270).save(path)
    assert prepare(data).hash != corpus.hash


def test_a_tokenizer_without_an_end_or_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    made = tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    made.save(str(path))
    with pytest.raises(DataError, match="has no token that ends a document"):
        Tokenizer.load(path)
    path.write_text("{}")
    with pytest.raises(DataError, match=r"no tokenizer\.json that can be read"):
        Tokenizer.load(path)
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        prepare(Data(corpus=str(text), tokenizer=str(tmp_path / "nowhere.json")))


def test_ids_with_gaps_cannot_be_exported(tmp_path: Path) -> None:
    made = tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 5, "</s>": 2}, unk_token="a"))
    made.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
    with pytest.raises(UserError, match="ids that no token uses"):
        write_tokenizer(tmp_path / "out", tokenizer, Specials(tokenizer.vocabulary, 2), 64)


def test_a_misspelled_tokenizer_is_told_what_it_may_be() -> None:
    with pytest.raises(
        ValueError, match=r"should be one of auto, bpe, bytes, words, or the path of a tokenizer\.json; did"
    ):
        Data(tokenizer="byte")
