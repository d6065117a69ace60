"""Files become the documents that the docstring promises, and bad files one clear line."""

import gzip
import json
import os
import random
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import corpora
from paribus.data.documents import BLOCK, WHOLE_FILE, Piece, _between_separators, _blocks, read_pieces
from paribus.data.sources import find_source
from paribus.data.tables import Column
from paribus.errors import DataError


def read(path: Path, column: str = "text") -> list[str]:
    """All documents of a corpus, joined from their pieces."""
    found, parts = [], []
    for file in find_source(str(path)).files:
        for piece in read_pieces(file, (Column("data.text_column", column),), lambda done: None):
            parts.append(piece.data)
            if piece.ends:
                found.append(b"".join(parts).decode())
                parts = []
    assert not parts, "a document never ended"
    return found


def chunked(data: bytes, sizes: list[int]) -> list[bytes]:
    chunks, place, turn = [], 0, 0
    while place < len(data):
        size = sizes[turn % len(sizes)]
        chunks.append(data[place : place + size])
        place, turn = place + size, turn + 1
    return chunks


@pytest.mark.parametrize("name", corpora.WRITERS)
@pytest.mark.parametrize("packing", ["plain", "gz", "xz"])
def test_every_format_gives_the_same_documents(tmp_path: Path, name: str, packing: str) -> None:
    texts = corpora.documents(40)
    path = corpora.WRITERS[name](tmp_path / name, texts)
    if packing != "plain":
        packed = corpora.write_gz(path) if packing == "gz" else corpora.write_xz(path)
        path.unlink()
        path = packed
    assert read(path) == texts


def test_a_folder_gives_one_document_per_small_text_file_and_the_records_of_tables(tmp_path: Path) -> None:
    texts = corpora.documents(12)
    folder = corpora.write_folder(tmp_path / "corpus", texts[:6])
    corpora.write_jsonl(folder / "10.jsonl", texts[6:])
    (folder / "picture.png").write_bytes(b"\x89PNG")
    (folder / ".hidden.txt").write_text("not seen")
    assert read(folder) == texts
    assert find_source(str(folder)).skipped == 1


def test_tsv_takes_quotes_as_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n"never closed\t1\nit\'s "quoted"\t0\n')
    assert read(path) == ['"never closed', 'it\'s "quoted"']


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbftext\r\nhello\r\n")
    assert read(tmp_path / "a.csv") == ["hello"]


def test_missing_values_are_blank_documents(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": null}\n\n{"text": "x"}\n')
    assert read(tmp_path / "a.jsonl") == ["", "x"]
    parquet.write_table(pa.table({"text": ["x", None]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ["x", ""]


def test_line_ends_of_windows_separate_documents_too(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\r\n<|endoftext|>\r\nthree\r\n<|endoftext|>\r\n")
    assert read(tmp_path / "a.txt") == ["one\r\ntwo", "three"]


def test_a_separator_within_a_line_is_text(tmp_path: Path) -> None:
    text = "say <|endoftext|>\nor <|endoftext|> here"
    (tmp_path / "a.txt").write_text(text)
    assert read(tmp_path / "a.txt") == [text]


@given(
    st.lists(st.text(st.sampled_from("ab\n <|>语é"), max_size=40), min_size=1, max_size=6),
    st.lists(st.integers(1, 50), min_size=1, max_size=4),
)
def test_separated_documents_come_back_however_the_file_is_chunked(texts: list[str], sizes: list[int]) -> None:
    data = "\n<|endoftext|>\n".join(texts).encode()
    found, parts = [], b""
    for piece in _between_separators(iter(chunked(data, sizes))):
        parts += piece.data
        if piece.ends:
            found.append(parts.decode())
            parts = b""
    assert not parts
    # An empty end of the file is no document.
    assert found == (texts if texts[-1] else texts[:-1])


@given(st.integers(0, 2**32), st.sampled_from(["words", "lines", "paragraphs", "none", "wide"]))
@settings(max_examples=40, deadline=None)
def test_blocks_join_to_the_text_and_have_about_the_promised_size(seed: int, kind: str) -> None:
    generator = random.Random(seed)
    mark = {"words": " ", "lines": "\n", "paragraphs": "\n\n", "none": "", "wide": ""}[kind]
    letter = "语" if kind == "wide" else "x"
    text = mark.join(letter * generator.randint(1, 200) for _ in range(generator.randint(1, 1500)))
    data = text.encode()
    pieces = list(_blocks(iter(chunked(data, [generator.randint(1000, 100_000)]))))
    assert b"".join(piece.data for piece in pieces) == data
    assert pieces == list(_blocks(iter([data])))
    assert all(piece.ends and len(piece.data) <= BLOCK * 3 // 2 for piece in pieces)
    for piece in pieces[:-1]:
        assert len(piece.data) >= BLOCK // 2
        assert piece.data.decode().endswith(mark)


def test_a_large_text_file_of_a_folder_is_cut_into_blocks(tmp_path: Path) -> None:
    text = "word " * (WHOLE_FILE // 5 + 10)
    (tmp_path / "small.txt").write_text(text[:WHOLE_FILE])
    assert len(read(tmp_path)) == 1
    (tmp_path / "small.txt").write_text(text)
    assert len(read(tmp_path)) > WHOLE_FILE // BLOCK // 2


def test_a_long_document_between_separators_stays_one(tmp_path: Path) -> None:
    path = corpora.write_separated(tmp_path / "a.txt", ["x" * (3 << 20), "y"])
    (file,) = find_source(str(path)).files
    pieces = list(read_pieces(file, (Column("data.text_column", "text"),), lambda done: None))
    assert sum(piece.ends for piece in pieces) == 2
    assert max(len(piece.data) for piece in pieces) <= (1 << 20) + 64


BAD_FILES = {
    "empty.txt": (b"", "is empty"),
    "empty.csv": (b"\n", "has no column 'text'"),
    "binary.txt": (b"abc\0def", "byte 3 is zero"),
    "latin.txt": ("caf\u00e9 ".encode("latin-1") * 9, "byte 3 (0xe9) is not UTF-8"),
    "end.txt": ("語".encode()[:2], "byte 0 (0xe8) is not UTF-8"),
    "wide.txt": ("text".encode("utf-16"), "UTF-16: save it as UTF-8"),
    "broken.jsonl": (b'{"text": "a"}\n{"text": \n', "line 2 is not JSON"),
    "list.jsonl": (b"[1, 2]\n", "line 1 is a JSON list"),
    "number.jsonl": (b'{"text": 3}\n', "is a JSON int, not a string"),
    "key.jsonl": (
        b'{"txt": "a", "id": 3}\n',
        "no column 'text', only 'txt', 'id': did you mean data.text_column = 'txt'?",
    ),
    "half.jsonl": (b'{"text": "\\ud800"}\n', "half of a surrogate pair"),
    "column.csv": (b"a,b\n1,2\n", "has no column 'text', only 'a', 'b'"),
    "nameless.tsv": (
        b"a\tb\n",
        "set data.text_column to one of these, or to '#1' and so on if no line names the columns",
    ),
    "fields.csv": (b"text,b\n1,2\n1,2,3\n", "line 3 has 3 fields, the header 2"),
    "quote.csv": (b'text,b\n"never closed,2\nx,y\n', "is a quote left open"),
    "fields.tsv": (b"text\tb\n1\n", "line 2 has 1 fields, the header 2"),
    "no.parquet": (b"PAR0 this is no parquet", "is no readable parquet"),
    "picture.png": (b"\x89PNG", "the suffix '.png' is not one of"),
    "damaged.txt.gz": (gzip.compress(b"text " * 1000)[:-20], "is damaged or cut off"),
    "plain.txt.gz": (b"no gzip at all", "is damaged or cut off"),
    "plain.txt.xz": (b"no xz at all", "is damaged or cut off"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_gives_one_line_that_names_it_and_the_fault(tmp_path: Path, name: str) -> None:
    content, fault = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(tmp_path / name)
    message = str(caught.value)
    assert fault in message
    assert name in message
    assert "\n" not in message


def test_encoding_errors_count_bytes_over_many_chunks(tmp_path: Path) -> None:
    data = ("é" * (1 << 20) + "x").encode() + b"\xff rest"
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(DataError, match=rf"byte {(2 << 20) + 1} \(0xff\)"):
        read(tmp_path / "a.txt")


def test_a_parquet_column_of_numbers_is_refused(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"text": [1, 2], "other": ["a", "b"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="column 'text' is int64, not string"):
        read(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no column 'body', only 'text', 'other'"):
        read(tmp_path / "a.parquet", "body")


def test_a_missing_path_suggests_near_names(tmp_path: Path) -> None:
    (tmp_path / "shakespeare.txt").write_text("x")
    with pytest.raises(DataError, match=r"did you mean shakespeare\.txt\?"):
        find_source(str(tmp_path / "shakespear.txt"))
    with pytest.raises(DataError, match="that folder does not exist either"):
        find_source(str(tmp_path / "nowhere" / "a.txt"))


def test_a_folder_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no file with one of the suffixes"):
        find_source(str(tmp_path))
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match="all its files are empty"):
        find_source(str(tmp_path))


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_an_unreadable_file_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "a.txt").chmod(0)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        read(tmp_path / "a.txt")


def test_the_standard_library_is_read_without_its_tests_and_site_packages() -> None:
    source = find_source("stdlib")
    names = [file.name for file in source.files]
    assert "stdlib/json/decoder.py" in names
    assert "stdlib/unittest/case.py" in names
    assert not any("/test/" in name or "/tests/" in name or "-packages/" in name for name in names)
    assert names == sorted(names)


def test_a_record_longer_than_memory_allows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paribus.data.tables.RECORD", 2 << 20)
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "x" * (3 << 20)}))
    with pytest.raises(DataError, match="line 1 is longer than 2 MiB"):
        read(tmp_path / "a.jsonl")


def test_pieces_of_nothing_hold_nothing() -> None:
    assert list(_between_separators(iter([]))) == []
    assert list(_blocks(iter([]))) == [Piece(b"", True)]
