"""Text to token ids and back: byte-level BPE, plain bytes (the same BPE without a merge), or whole words.

The first two lose nothing. Words are what lies between blanks (Unicode's White_Space): text whose words are separated by single
spaces comes back as it was, other text with single spaces. A word that training did not hold becomes `<|unknown|>`.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from paribus.errors import DataError
from paribus.files import write_text

END = "<|end|>"
"""The token that ends every document; its id is 0."""
PIECE = 64 << 10
"""Bytes encoded in one call: the memory of a call grows with a hundred times its text."""
UNKNOWN = "<|unknown|>"
"""The token of a word that the training split does not hold; its id is 1, and it counts as no bytes."""
LONGEST_WORD = 1 << 10
"""Characters of the longest word that gets an id."""
MOST_WORDS = 1_000_000
"""Distinct words that get an id, at most."""
FOREIGN_ENDS = (END, "</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>", "[SEP]", "<|eot_id|>", "<|im_end|>")
"""What ends a document in a tokenizer from elsewhere: the first of these that it has."""
SMALLEST = 257
"""Ids that a lossless tokenizer cannot do without: 256 bytes and the end."""

_DISTINCT = 8 << 20
_COUNTED = 4
_LONGEST_RUN = 128
_CUT_SEARCH = 4 << 10
_WORD = re.compile(r" ?[^\W\d_]{1,32}| ?\d+| ?[^\s\w]+|\s+|_+")
_BYTE_TOKEN = re.compile("<0x[0-9A-Fa-f]{2}>")
_LONG_RUN = re.compile(rf"\S{{{_LONGEST_RUN}}}")
# Python counts the separators U+001C to U+001F as blanks, Unicode and the tokenizers library do not.
_BETWEEN_BLANKS = re.compile(r"(?:\S|[\x1c-\x1f])+")
_WORD_END = re.compile(rb"[^ \n\t\r](?=[ \n])")


class Tokenizer:
    """Token ids of text, and text of token ids. Text that reads `<|end|>` is text, not the end of a document."""

    end = 0
    joint = ""
    """What stands between texts that are decoded apart."""

    def __init__(self, bpe: tokenizers.Tokenizer) -> None:
        self.bpe = bpe
        # Neither kept in tokenizer.json nor on by default: without it a document could end itself.
        bpe.encode_special_tokens = True
        ids = bpe.get_vocab(with_added_tokens=True)
        byte_of = {character: byte for byte, character in enumerate(_alphabet())}
        self._bytes = [b""] * len(ids)
        for token, number in ids.items():
            if number != self.end:
                self._bytes[number] = bytes(byte_of[character] for character in token)
        self.vocabulary = len(ids)
        """Number of token ids."""
        self.token_bytes: npt.NDArray[np.int64] = np.array([len(token) for token in self._bytes], dtype=np.int64)
        """Bytes of text that each id stands for (vocabulary,); 0 for the end. A word counts with one blank."""

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Read a `tokenizer.json`, one that was trained here or any other. Raises DataError if it cannot be used."""
        try:
            stored = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing more precise
            raise DataError(f"{path}: is no tokenizer.json that can be read: {str(error).splitlines()[0]}") from error
        added = {token.content: number for number, token in stored.get_added_tokens_decoder().items()}
        if added == {END: Tokenizer.end, UNKNOWN: WordTokenizer.unknown} and isinstance(stored.model, models.WordLevel):
            return WordTokenizer(stored)
        if added == {END: Tokenizer.end} and isinstance(stored.model, models.BPE):
            return Tokenizer(stored)
        return ForeignTokenizer(stored, path)

    def save(self, path: Path) -> None:
        """Write a `tokenizer.json`, as the tokenizers and transformers libraries read it."""
        write_text(path, self.bpe.to_str())

    def encode(self, text: str) -> npt.NDArray[np.int64]:
        """Token ids of `text`, of any length, without an end. Raises UnicodeEncodeError for half a surrogate pair."""
        data = text.encode()
        pieces = list(cut_pieces(lambda offset, size: data[offset : offset + size], 0, len(data)))
        ids = self.encode_pieces(pieces)
        return np.concatenate(ids) if ids else np.zeros(0, dtype=np.int64)

    def encode_pieces(self, pieces: Sequence[bytes]) -> list[npt.NDArray[np.int64]]:
        """Token ids of each piece of UTF-8, on all cores."""
        if self.vocabulary == SMALLEST:
            return [np.frombuffer(piece, dtype=np.uint8).astype(np.int64) + 1 for piece in pieces]
        encodings = self.bpe.encode_batch_fast([piece.decode() for piece in pieces], add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids; ends are left out, bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self._bytes[number] for number in ids).decode(errors="replace")


class WordTokenizer(Tokenizer):
    """One id for each word of the training split, after those of the end and of unknown words."""

    unknown = 1
    joint = " "

    def __init__(self, words: tokenizers.Tokenizer) -> None:
        # Not the base's: that reads the ids as byte-level BPE.
        self.bpe = words
        words.encode_special_tokens = True
        self._ids = words.get_vocab(with_added_tokens=True)
        self._words = [""] * len(self._ids)
        for word, number in self._ids.items():
            self._words[number] = word
        # Text that spells a special token is a word like any other, and an unknown one.
        del self._ids[END], self._ids[UNKNOWN]
        self.vocabulary = len(self._words)
        self.token_bytes = np.array([len(word.encode()) + 1 for word in self._words], dtype=np.int64)
        self.token_bytes[[self.end, self.unknown]] = 0

    def encode_pieces(self, pieces: Sequence[bytes]) -> list[npt.NDArray[np.int64]]:
        """Token ids of the words of each piece of UTF-8; no word may be cut by the end of a piece."""
        ids, unknown = self._ids, self.unknown
        return [
            np.array([ids.get(word, unknown) for word in split_words(piece.decode())], dtype=np.int64)
            for piece in pieces
        ]

    def decode(self, ids: Iterable[int]) -> str:
        """Words of token ids with single spaces; ends are left out."""
        return " ".join(self._words[number] for number in ids if number != self.end)


class ForeignTokenizer(Tokenizer):
    """A `tokenizer.json` from elsewhere, such as a checkpoint's own.

    Text may come back changed, where the tokenizer changes it (lower case, blanks). A document ends with the first of
    `FOREIGN_ENDS` that the tokenizer has. The bytes of an id are those that it decodes to, a leading blank included.
    """

    def __init__(self, stored: tokenizers.Tokenizer, path: Path) -> None:
        # Not the base's: that reads all ids as byte-level BPE.
        self.bpe = stored
        stored.encode_special_tokens = True
        stored.no_truncation()
        stored.no_padding()
        ids = stored.get_vocab(with_added_tokens=True)
        ends = [ids[token] for token in FOREIGN_ENDS if token in ids]
        if not ends:
            known = ", ".join(FOREIGN_ENDS)
            raise DataError(f"{path}: has no token that ends a document; it should have one of {known}")
        self.end = ends[0]
        self.vocabulary = max(ids.values()) + 1
        added = stored.get_added_tokens_decoder()
        self.token_bytes = np.zeros(self.vocabulary, dtype=np.int64)
        byte_level = "ByteLevel" in json.dumps(json.loads(stored.to_str())["decoder"])
        for token, number in ids.items():
            if number not in added:
                self.token_bytes[number] = _foreign_bytes(token, byte_level, isinstance(stored.model, models.WordPiece))
            elif not added[number].special:
                self.token_bytes[number] = len(token.encode())

    def encode_pieces(self, pieces: Sequence[bytes]) -> list[npt.NDArray[np.int64]]:
        """Token ids of each piece of UTF-8, on all cores."""
        encodings = self.bpe.encode_batch_fast([piece.decode() for piece in pieces], add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids; special tokens are left out."""
        return self.bpe.decode([int(number) for number in ids], skip_special_tokens=True)


def _foreign_bytes(token: str, byte_level: bool, word_piece: bool) -> int:
    """Bytes of text that a token stands for: of byte-level BPE, of WordPiece, or of SentencePiece's forms."""
    if byte_level:
        return len(token)
    if word_piece:
        return len(token.removeprefix("##").encode()) + (not token.startswith("##"))
    if _BYTE_TOKEN.fullmatch(token):
        return 1
    return len(token.replace("\u2581", " ").encode())


def split_words(text: str) -> list[str]:
    """What lies between blanks."""
    return _BETWEEN_BLANKS.findall(text)


def cut_pieces(read: Callable[[int, int], bytes], offset: int, size: int) -> Iterator[bytes]:
    """Cut `size` bytes of UTF-8 from `offset` on into pieces of at most `PIECE`, before blanks where there are any.

    No BPE token crosses such a cut, so that the pieces encode as the whole would; a run of 64 KiB without a blank is cut
    between characters.
    """
    end = offset + size
    while offset < end:
        piece = read(offset, min(PIECE, end - offset))
        if offset + len(piece) < end:
            piece = piece[: _piece_end(piece)]
        yield piece
        offset += len(piece)


def _piece_end(piece: bytes) -> int:
    last = len(piece)
    for match in _WORD_END.finditer(piece, len(piece) - _CUT_SEARCH):
        last = match.end()
    if last < len(piece):
        return last
    # A character may be cut: its first byte, one of the last four, tells how long it should be.
    for back in range(1, 5):
        byte = piece[-back]
        if byte & 0xC0 != 0x80:
            length = 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(piece) - back if length > back else len(piece)
    raise ValueError("not UTF-8")


def byte_tokenizer() -> Tokenizer:
    """One id per byte, its value plus one."""
    vocabulary = {END: Tokenizer.end} | {character: byte + 1 for byte, character in enumerate(_alphabet())}
    bpe = _byte_level(models.BPE(vocab=vocabulary, merges=[]))
    bpe.add_special_tokens([END])
    return Tokenizer(bpe)


def train_bpe(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Train a byte-level BPE of at most `vocabulary` ids on `texts`, each at most 64 KiB.

    Stops reading when the distinct words seen may exceed 8 MiB: the trainer keeps each of them with about a hundred
    times its size, and text without blanks (Chinese, DNA) never repeats one. Raises DataError if `vocabulary` is less than the
    256 bytes and the end.
    """
    if vocabulary < SMALLEST:
        raise DataError(f"data.vocabulary = {vocabulary}: 256 bytes and the end of a document need at least {SMALLEST}")
    bpe = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_until_too_many_words(texts), trainer)
    return Tokenizer(bpe)


def train_words(texts: Iterable[str]) -> WordTokenizer:
    """Give an id to every word of `texts`, in alphabetical order.

    Raises DataError where there are more than a million words, or one of more than 1,024 characters: such text is not made
    of words.
    """
    words: set[str] = set()
    for text in texts:
        words.update(split_words(text))
        if len(words) > MOST_WORDS:
            raise DataError(f"data.tokenizer = 'words': more than {MOST_WORDS:,} distinct words: use 'bpe'")
    words -= {END, UNKNOWN}
    longest = max(words, key=len, default="")
    if len(longest) > LONGEST_WORD:
        fault = f"the word {longest[:20]!r}… has {len(longest)} characters, more than {LONGEST_WORD}"
        raise DataError(f"data.tokenizer = 'words': {fault}: use 'bpe'")
    vocabulary = {word: number for number, word in enumerate([END, UNKNOWN, *sorted(words)])}
    made = tokenizers.Tokenizer(models.WordLevel(vocab=vocabulary, unk_token=UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens([END, UNKNOWN])
    return WordTokenizer(made)


def _short_runs(text: str) -> list[str]:
    """Cut long runs without blanks: to merge a pair, the trainer searches all of every word that holds it."""
    if max(map(len, text.split()), default=0) <= _LONGEST_RUN:
        return [text]
    cuts = [0, *(match.end() for match in _LONG_RUN.finditer(text)), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(cuts)]


def _until_too_many_words(texts: Iterable[str]) -> Iterator[list[str]]:
    """Count in every fourth text, which bounds the whole: all texts have at most four times the words of a quarter."""
    words: set[str] = set()
    size = 0
    for number, text in enumerate(texts):
        yield _short_runs(text)
        if number % _COUNTED == 0:
            new = set(_WORD.findall(text)) - words
            words |= new
            size += sum(len(word.encode()) for word in new)
            if size * _COUNTED > _DISTINCT:
                return


def _byte_level(model: models.BPE) -> tokenizers.Tokenizer:
    bpe = tokenizers.Tokenizer(model)
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    return bpe


def _alphabet() -> list[str]:
    """The character that stands for each byte in byte-level BPE: itself if printable, else one from U+0100 on (GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) if byte in printable else chr(256 + others.index(byte)) for byte in range(256)]
