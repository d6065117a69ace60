"""Small corpora in every format, and seeded text that looks like language."""

import csv
import gzip
import json
import lzma
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet


def documents(count: int, seed: int = 0, words: int = 400) -> list[str]:
    """Distinct documents of different lengths, with newlines, quotes, tabs-free blanks and characters of 1 to 4 bytes."""
    generator = random.Random(seed)
    lexicon = ["".join(generator.choices("abcdefghijklmnop", k=generator.randint(1, 9))) for _ in range(500)]
    lexicon += ["naïve", "Straße", "语言", "模型", "🦜", '"quoted"', "it's", "x,y", "\\n", "<|end|>", "  "]
    made = []
    for number in range(count):
        length = generator.randint(words // 4, words * 2)
        text = " ".join(generator.choices(lexicon, k=length))
        made.append(f"document {number}\n\n" + text.replace(" a", "\na"))
    return made


def write_folder(path: Path, texts: list[str]) -> Path:
    path.mkdir(parents=True)
    for number, text in enumerate(texts):
        (path / f"{number:05}.txt").write_bytes(text.encode())
    return path


def write_separated(path: Path, texts: list[str]) -> Path:
    path.write_bytes("\n<|endoftext|>\n".join(texts).encode())
    return path


def write_jsonl(path: Path, texts: list[str]) -> Path:
    path.write_bytes("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(texts)).encode())
    return path


def write_csv(path: Path, texts: list[str]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        writer.writerows(enumerate(texts))
    return path


def write_parquet(path: Path, texts: list[str]) -> Path:
    table = pa.table({"id": list(range(len(texts))), "text": texts})
    parquet.write_table(table, path, row_group_size=17)
    return path


def write_gz(path: Path) -> Path:
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    return packed


def write_xz(path: Path) -> Path:
    packed = path.with_name(path.name + ".xz")
    packed.write_bytes(lzma.compress(path.read_bytes()))
    return packed


WRITERS: dict[str, Callable[[Path, list[str]], Path]] = {
    "corpus.txt": write_separated,
    "corpus.jsonl": write_jsonl,
    "corpus.csv": write_csv,
    "corpus.parquet": write_parquet,
}
