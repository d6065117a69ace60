"""Peak memory and speed of preparing one large text file, whatever its lines.

`python benchmarks/data_memory.py [MB] [CASE …]`. Cases: `lines` (ordinary prose), `one_line` (the same as a single line),
`no_blanks` (one line without a single blank) and `one_document` (three documents, one of which is all but the whole
file). Prints a table, then one JSON line; exit status 1 if any case needs more than 2 GB of resident memory.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT_MB = 2000
CASES = {"lines": "\n", "one_line": " ", "no_blanks": "", "one_document": "\n"}

PREPARE = """
import json, resource, sys
from paribus.data.store import prepare
from paribus.spec.data import Data
corpus = prepare(Data(corpus=sys.argv[1]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
print(json.dumps({"peak_rss_mb": round(peak), **corpus.summary()}))
"""


def write_text(path: Path, megabytes: int, case: str) -> int:
    """Write words of a Zipf-like lexicon; returns the bytes written."""
    generator = random.Random(0)
    lexicon = [
        "".join(generator.choices("etaoinshrdlucmfwypvbgkjqxz", k=generator.randint(1, 11))) for _ in range(200_000)
    ]
    weights = [1 / (rank + 3) for rank in range(len(lexicon))]
    size = 0
    with open(path, "w", encoding="ascii") as file:
        if case == "one_document":
            size += file.write("a short one\n<|endoftext|>\nanother short one\n<|endoftext|>\n")
        while size < megabytes * 1_000_000:
            words = generator.choices(lexicon, weights, k=200_000)
            sentences = [
                ("" if case == "no_blanks" else " ").join(words[at : at + 12]) for at in range(0, len(words), 12)
            ]
            size += file.write(CASES[case].join(sentences) + CASES[case])
    return size


def measure(megabytes: int, case: str) -> dict[str, object]:
    """Prepare one generated file in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="paribus-benchmark-") as folder:
        path = Path(folder, f"{case}.txt")
        size = write_text(path, megabytes, case)
        environment = {**os.environ, "PARIBUS_CACHE": str(Path(folder, "cache"))}
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", PREPARE, str(path)], env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", PREPARE, str(path)], env=environment, check=True, stdout=subprocess.PIPE)
        again = time.perf_counter() - start
    result = json.loads(done.stdout)
    return {
        "case": case,
        "megabytes": round(size / 1e6),
        "peak_rss_mb": result["peak_rss_mb"],
        "seconds": round(seconds, 1),
        "mb_per_second": round(size / 1e6 / seconds, 2),
        "open_again_seconds": round(again, 2),
        "documents": result["documents_read"],
        "tokens": sum(split["tokens"] for split in result["splits"].values()),
        "tokenizer_sample_mb": round(result["tokenizer_sample_bytes"] / 1e6),
        "within_limit": result["peak_rss_mb"] < LIMIT_MB,
    }


def main() -> int:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    rows = []
    columns = [
        "case",
        "megabytes",
        "peak_rss_mb",
        "seconds",
        "mb_per_second",
        "open_again_seconds",
        "documents",
        "tokens",
    ]
    print("  ".join(f"{column:>18}" for column in columns), flush=True)
    for case in sys.argv[2:] or ["lines", "one_line"]:
        row = measure(megabytes, case)
        rows.append(row)
        print("  ".join(f"{row[column]!s:>18}" for column in columns), flush=True)
    print(json.dumps({"benchmark": "data_memory", "limit_mb": LIMIT_MB, "rows": rows}))
    return 0 if all(row["within_limit"] for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
