"""Pairs: an input and a target per record, tokenised apart; no test input in training; official splits are kept."""

import csv
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

import corpora
from paribus.data.sources import find_source
from paribus.data.store import Corpus, prepare
from paribus.errors import DataError
from paribus.spec.data import Data

PAIRS = [(f"ask {number} naïve", f"answer, “{number * 7}” 语") for number in range(60)]
SHARED = Path(os.environ.get("PARIBUS_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


def write_jsonl(path: Path, pairs: list[tuple[str, str]]) -> Path:
    lines = (json.dumps({"id": 1, "target": target, "input": source}) + "\n" for source, target in pairs)
    path.write_text("".join(lines), encoding="utf-8")
    return path


def write_csv(path: Path, pairs: list[tuple[str, str]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("input", "id", "target"), *((source, 1, target) for source, target in pairs)])
    return path


def write_tsv(path: Path, pairs: list[tuple[str, str]]) -> Path:
    path.write_text(
        "".join(f"{source}\t{target}\n" for source, target in [("input", "target"), *pairs]), encoding="utf-8"
    )
    return path


def write_parquet(path: Path, pairs: list[tuple[str, str]]) -> Path:
    table = pa.table({"target": [target for _, target in pairs], "input": [source for source, _ in pairs]})
    parquet.write_table(table, path, row_group_size=7)
    return path


WRITERS: dict[str, Callable[[Path, list[tuple[str, str]]], Path]] = {
    "a.jsonl": write_jsonl,
    "a.csv": write_csv,
    "a.tsv": write_tsv,
    "a.parquet": write_parquet,
}


def open_pairs(path: Path, **fields: object) -> Corpus:
    return prepare(Data.model_validate({"corpus": str(path), "pairs": True, "tokenizer": "bytes", **fields}))


def pairs_of(corpus: Corpus, name: str) -> list[tuple[str, str]]:
    """All pairs of a split, from its tokens."""
    split = corpus.split(name)  # type: ignore[arg-type]
    assert split.cuts is not None
    assert len(split.cuts) == len(split.lengths)
    found = []
    for start, end, cut in zip(split.starts, split.starts[1:], split.cuts, strict=False):
        tokens = split.tokens[start:end].tolist()
        assert tokens[-1] == corpus.tokenizer.end
        found.append((corpus.tokenizer.decode(tokens[:cut]), corpus.tokenizer.decode(tokens[cut:])))
    return found


def all_pairs(corpus: Corpus) -> list[tuple[str, str]]:
    return [pair for name in ("train", "tune", "test") for pair in pairs_of(corpus, name)]


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("packing", ["plain", "gz", "xz"])
def test_every_format_gives_the_same_pairs_in_the_same_splits(tmp_path: Path, name: str, packing: str) -> None:
    path = WRITERS[name](tmp_path / name, PAIRS)
    if packing != "plain":
        path = corpora.write_gz(path) if packing == "gz" else corpora.write_xz(path)
    corpus = open_pairs(path)
    reference = open_pairs(write_jsonl(tmp_path / "reference.jsonl", PAIRS))
    assert sorted(all_pairs(corpus)) == sorted(PAIRS)
    for split in ("train", "tune", "test"):
        assert pairs_of(corpus, split) == pairs_of(reference, split)


@pytest.mark.parametrize("tokenizer", ["bpe", "bytes", "words"])
def test_input_and_target_are_tokenised_apart(tmp_path: Path, tokenizer: str) -> None:
    pairs = [(f"ab{number} cd", f"ef gh{number}") for number in range(40)]
    corpus = open_pairs(write_jsonl(tmp_path / "a.jsonl", pairs), tokenizer=tokenizer, vocabulary=300)
    split = corpus.split("train")
    assert split.cuts is not None
    for (source, target), start, end, cut in zip(
        pairs_of(corpus, "train"), split.starts, split.starts[1:], split.cuts, strict=False
    ):
        tokens = split.tokens[start:end].tolist()
        assert tokens[:cut] == corpus.tokenizer.encode(source).tolist()
        assert tokens[cut:-1] == corpus.tokenizer.encode(target).tolist()
    assert sorted(all_pairs(corpus)) == sorted(pairs) or tokenizer == "words"
    assert not any("cdef" in corpus.tokenizer.decode([number]) for number in range(corpus.text_vocabulary))


def test_an_input_with_several_targets_is_in_one_split_and_equal_pairs_are_kept_once(tmp_path: Path) -> None:
    pairs = [(f"input {number % 50}", f"target {number}") for number in range(300)]
    corpus = open_pairs(write_jsonl(tmp_path / "a.jsonl", pairs + pairs[:30]), tune_fraction=0.2, test_fraction=0.2)
    inputs = [{source for source, _ in pairs_of(corpus, name)} for name in ("train", "tune", "test")]
    assert all(inputs)
    assert sum(map(len, inputs)) == 50
    assert sorted(all_pairs(corpus)) == sorted(pairs)
    assert corpus.summary()["duplicates_removed"] == 30
    assert corpus.summary()["inputs_in_test_and_train"] == 0


def test_pairs_whose_texts_join_to_the_same_text_are_two_pairs(tmp_path: Path) -> None:
    pairs = [("a", "bc"), ("ab", "c"), ("x", "y"), ("z", "y")]
    assert sorted(all_pairs(open_pairs(write_jsonl(tmp_path / "a.jsonl", pairs)))) == sorted(pairs)


def test_a_pair_without_input_or_target_is_left_out_and_counted(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [*PAIRS, ("", "target"), ("input", " \n"), (None, "x")])  # type: ignore[list-item]
    corpus = open_pairs(path)
    assert sorted(all_pairs(corpus)) == sorted(PAIRS)
    assert corpus.summary()["blank_documents_skipped"] == 3


def test_columns_without_names_are_given_by_place(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("".join(f"{target}\tother\t{source}\n" for source, target in PAIRS), encoding="utf-8")
    assert sorted(all_pairs(open_pairs(path, input_column="#3", target_column="#1"))) == sorted(PAIRS)
    with pytest.raises(DataError, match=r"input_column = '#4': its first line has 3 fields"):
        open_pairs(path, input_column="#4", target_column="#1")
    with pytest.raises(DataError, match="give the place of both columns"):
        open_pairs(path, input_column="#3")


def test_faults_give_one_line(tmp_path: Path) -> None:
    faults = {
        "a.jsonl": (
            '{"input": "x", "taget": "y"}',
            "line 1 has no column 'target', only 'input', 'taget': did you mean",
        ),
        "b.csv": ("question,answer\nx,y\n", "has no column 'input', only 'question', 'answer'"),
        "c.jsonl": ('{"input": "x", "target": 3}', "'target' is a JSON int, not a string: name another target_column"),
        "d.txt": ("some text", "is text, which has no pairs of input and target: give jsonl"),
        "e.jsonl": ('{"input": "x", "target": "y"}', "1 distinct input, but train, tune and test need one each"),
        "f.jsonl": (
            '{"input": "", "target": "y"}\n' * 9,
            "give more text; left out were 9 with a blank input or target",
        ),
    }
    for name, (content, fault) in faults.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(DataError) as told:
            open_pairs(tmp_path / name)
        assert fault in str(told.value)
        assert "\n" not in str(told.value)
    with pytest.raises(DataError, match="'stdlib' is text"):
        prepare(Data(pairs=True))


def test_text_files_of_a_folder_of_pairs_are_left_out_and_counted(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", PAIRS[:30])
    write_csv(tmp_path / "b.csv", PAIRS[30:])
    (tmp_path / "SOURCE.txt").write_text("where they come from")
    corpus = open_pairs(tmp_path)
    assert sorted(all_pairs(corpus)) == sorted(PAIRS)
    assert corpus.summary()["files_skipped"] == 1


def test_official_splits_are_kept_and_what_they_share_leaves_training(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", [*PAIRS[:40], PAIRS[50], ("ask 51 naïve", "another answer")])
    write_csv(tmp_path / "dev-1.csv", PAIRS[40:50])
    (tmp_path / "test").mkdir()
    write_parquet(tmp_path / "test" / "part.parquet", PAIRS[50:])
    write_tsv(tmp_path / "others.tsv", [("neither", "this nor that")])
    corpus = open_pairs(tmp_path)
    assert sorted(pairs_of(corpus, "train")) == sorted([*PAIRS[:40], ("ask 51 naïve", "another answer")])
    assert sorted(pairs_of(corpus, "tune")) == sorted(PAIRS[40:50])
    assert sorted(pairs_of(corpus, "test")) == sorted(PAIRS[50:])
    said = corpus.summary()
    assert said["official_splits"] == ["train", "tune", "test"]
    assert (said["duplicates_removed"], said["files_skipped"], said["inputs_in_test_and_train"]) == (1, 1, 1)


def test_a_split_that_is_not_there_is_taken_from_training(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", PAIRS[:50])
    write_jsonl(tmp_path / "test.jsonl", PAIRS[50:])
    corpus = open_pairs(tmp_path, tune_fraction=0.2)
    assert sorted(pairs_of(corpus, "test")) == sorted(PAIRS[50:])
    assert 5 <= len(pairs_of(corpus, "tune")) <= 15
    assert sorted(pairs_of(corpus, "train") + pairs_of(corpus, "tune")) == sorted(PAIRS[:50])
    assert corpus.summary()["official_splits"] == ["train", "test"]


def test_official_splits_of_text_are_kept_too(tmp_path: Path) -> None:
    texts = corpora.documents(30)
    corpora.write_folder(tmp_path / "training", texts[:20])
    corpora.write_folder(tmp_path / "valid", texts[20:25])
    corpora.write_separated(tmp_path / "test.txt", texts[25:])
    corpus = prepare(Data(corpus=str(tmp_path), tokenizer="bytes"))
    split = corpus.split("test")
    found = [
        corpus.tokenizer.decode(split.tokens[a:b].tolist())
        for a, b in zip(split.starts, split.starts[1:], strict=False)
    ]
    assert sorted(found) == sorted(texts[25:])
    assert [corpus.summary()["splits"][name]["documents"] for name in ("train", "tune")] == [20, 5]
    assert split.cuts is None


def test_names_that_only_resemble_splits_divide_nothing(tmp_path: Path) -> None:
    for name in ("train.py", "test_train.py", "testimony.txt", "trainer.txt", "valid.md"):
        (tmp_path / name).write_text(f"text of {name}")
    assert find_source(str(tmp_path)).official == []
    assert len(find_source(str(tmp_path)).files) == 5


def test_an_official_split_without_a_document_is_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", PAIRS)
    write_jsonl(tmp_path / "test.jsonl", [("", "x")])
    with pytest.raises(DataError, match="its files of the test split hold no document"):
        open_pairs(tmp_path)


def test_special_tokens_stand_above_the_texts_own_and_do_not_change_the_store(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", PAIRS)
    plain, special = open_pairs(path), open_pairs(path, special_tokens=7)
    assert plain.folder == special.folder
    assert (plain.vocabulary, special.vocabulary, special.text_vocabulary) == (257, 264, 257)
    assert special.token_bytes.tolist() == [0] + [1] * 256 + [0] * 7
    marks = special.specials
    ids = [
        marks.start,
        *special.tokenizer.encode("né"),
        marks.mask,
        marks.sentinel(1),
        *special.tokenizer.encode("x"),
        0,
    ]
    assert special.render(np.array(ids)) == "<|start|>né<|mask|><|sentinel_1|>x<|end|>"
    words = open_pairs(path, special_tokens=2, tokenizer="words")
    ids = [words.specials.start, *words.tokenizer.encode("ask naïve"), words.specials.mask, 0]
    assert words.render(ids) == "<|start|> ask naïve <|mask|> <|end|>"


def test_columns_change_the_store_and_what_is_not_read_does_not(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", PAIRS)
    swapped = open_pairs(path, input_column="target", target_column="input")
    assert swapped.hash != open_pairs(path).hash
    assert sorted(all_pairs(swapped)) == sorted((target, source) for source, target in PAIRS)
    assert open_pairs(path, text_column="other").hash == open_pairs(path).hash


def shared(name: str) -> Path:
    if not (SHARED / name).is_dir():
        pytest.skip(f"no {name} in {SHARED}: set PARIBUS_SHARED_DATA to the folder that holds it")
    return SHARED / name


@pytest.mark.parametrize(
    "name,columns,documents",
    [
        ("tatoeba-cmn-eng", ("#1", "#2"), [18_980, 857, 1_279]),
        ("cmudict-g2p", ("#1", "#2"), [114_135, 2_389, 6_262]),
        ("gsm8k", ("question", "answer"), [None, None, 1_319]),
    ],
)
def test_published_pairs_keep_their_official_splits(
    name: str, columns: tuple[str, str], documents: list[int | None]
) -> None:
    corpus = open_pairs(shared(name), input_column=columns[0], target_column=columns[1])
    splits = corpus.summary()["splits"]
    for split, count in zip(("train", "tune", "test"), documents, strict=True):
        assert count is None or splits[split]["documents"] == count
    assert sum(split["documents"] for split in splits.values()) == sum(filter(None, documents)) or name == "gsm8k"
    assert corpus.summary()["inputs_in_test_and_train"] == 0


def test_scan_and_clinc_are_pairs_once_their_own_form_is_rewritten(tmp_path: Path) -> None:
    for split in ("train", "test"):
        text = lzma.decompress((shared("scan") / f"tasks_{split}_simple.txt.xz").read_bytes()).decode()
        pairs = [tuple(line.removeprefix("IN: ").split(" OUT: ")) for line in text.splitlines()]
        (tmp_path / "scan").mkdir(exist_ok=True)
        write_tsv(tmp_path / "scan" / f"{split}.tsv", pairs)  # type: ignore[arg-type]
    scan = open_pairs(tmp_path / "scan", tokenizer="words")
    assert scan.summary()["splits"]["test"] == {
        **scan.summary()["splits"]["test"],
        "documents": 4_182,
        "unknown_words": 0,
    }
    tables = json.loads(lzma.decompress((shared("clinc150") / "data_full.json.xz").read_bytes()))
    (tmp_path / "clinc").mkdir()
    for split, name in (("train", "train"), ("val", "valid"), ("test", "test")):
        write_jsonl(tmp_path / "clinc" / f"{name}.jsonl", [tuple(pair) for pair in tables[split]])
    clinc = open_pairs(tmp_path / "clinc", tokenizer="bpe")
    assert clinc.summary()["splits"]["test"]["documents"] == 4_500
    assert clinc.summary()["official_splits"] == ["train", "tune", "test"]
