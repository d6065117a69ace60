"""Writes a study's directory in the format of docs/directory.md, as `paribus run` would leave it.

The losses are drawn from a fixed generator and judged with a plain paired t interval: input for a report, no result.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from scipy import stats

from paribus.spec.study import Config, Study

SWITCHES: dict[str, dict[str, str]] = {
    "gpt": {"input_attention": "causal"},
    "unilm": {"input_attention": "bidirectional"},
    "mixed": {"input_attention": "forward_backward_heads"},
    "unshared_causal": {"input_attention": "causal", "parameters": "separate"},
    "unshared": {"input_attention": "bidirectional", "parameters": "separate"},
    "t5": {"input_attention": "bidirectional", "parameters": "separate", "memory": "cross_attention"},
}
SHIFT = {"gpt": 0.0, "unilm": -0.006, "mixed": -0.021, "unshared_causal": -0.034, "unshared": -0.061, "t5": -0.052}
CLAIMS = [
    ("Bidirectional input attention brings no gain", "unilm", "gpt", "not_better", True),
    (
        "Attention that looks back in half of the heads and ahead in the others is better",
        "mixed",
        "gpt",
        "better",
        False,
    ),
    ("Separate parameters help even where the input is read causally", "unshared_causal", "gpt", "better", False),
    ("Unshared, bidirectional input attention is better than causal", "unshared", "unshared_causal", "better", False),
    (
        "T5 is better than GPT only by its parameters: unshared causal does as well",
        "unshared_causal",
        "t5",
        "equal",
        False,
    ),
]


def sha(text: str) -> str:
    """A hash as the directory records one."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write one JSON file of the directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False), encoding="utf-8")


def write_study(
    directory: Path,
    *,
    arms: tuple[str, ...] = ("gpt", "unilm", "mixed", "unshared_causal", "unshared", "t5"),
    repeats: bool = True,
    seeds: int = 3,
    steps: int = 600,
    diverged: tuple[tuple[str, int], ...] = (),
    unfinished: tuple[tuple[str, int], ...] = (),
    rename: dict[str, str] | None = None,
    question: str = "Does bidirectional attention over the input help generation, and is the encoder-decoder better than its parameters?",  # noqa: E501
    says: str | None = None,
    verdicts: bool = True,
    environment: dict[str, Any] | None = None,
    about: str = "A blog post of 2023 argued that bidirectional attention over the input brings nothing, and that the "
    "encoder-decoder owes its advantage to having twice the parameters. It left the arms that would tell to the reader.",
) -> Path:
    """Write a directory; `diverged` and `unfinished` name trials by (arm, seed); `rename` maps arms to other names."""
    name = {arm: arm for arm in arms} | (rename or {})
    base = {
        "data": {"corpus": "stdlib", "vocabulary": 1024, "window": 128},
        "model": {"layers": 4, "width": 64, "head_size": 32},
        "training": {"tokens": 600_000, "batch": 8},
    }
    again = [arm for arm in ("gpt", "unilm") if repeats and arm in arms]
    claims = [row for row in CLAIMS if row[1] in arms and row[2] in arms]
    study = Study.model_validate(
        {
            "question": question,
            "about": about,
            "vary": ["model.input_attention", "model.parameters", "model.memory"],
            "hold": ["seen_tokens", "loss_tokens"],
            "seeds": seeds,
            **base,
            "arm": {name[arm]: {f"model.{key}": value for key, value in SWITCHES[arm].items()} for arm in arms},
            "claim": [
                {
                    "says": says or text,
                    "arm": name[arm],
                    "against": name[against],
                    "expect": expect,
                    "margin": 0.01,
                    "repeat_under": {"model.init": ["normal_0.02"]} if repeated and repeats else {},
                }
                for text, arm, against, expect, repeated in claims
            ],
        }
    )
    write_json(directory / "study.json", study.model_dump(mode="json"))

    def config(arm: str, init: str) -> dict[str, Any]:
        model = {**base["model"], **SWITCHES[arm], "init": init}
        return Config.model_validate({**base, "model": model}).model_dump(mode="json")

    planned = [(name[arm], arm, "fan_in", None) for arm in arms]
    planned += [(f"{name[arm]} [init=normal_0.02]", arm, "normal_0.02", name[arm]) for arm in again]
    ids = {
        (label, seed): sha(json.dumps([config(arm, init), seed]))[:12]
        for label, arm, init, _ in planned
        for seed in range(seeds)
    }
    as_written: dict[str, Any] = {"condition": {}, "vary": [], "hold": []}
    judged = [
        {**claim.model_dump(mode="json"), **as_written, "number": number} for number, claim in enumerate(study.claim)
    ]
    if again == ["gpt", "unilm"]:
        judged.insert(
            1,
            {
                **judged[0],
                "arm": f"{name['unilm']} [init=normal_0.02]",
                "against": f"{name['gpt']} [init=normal_0.02]",
                "condition": {"setting": {"field": "model.init", "value": "normal_0.02"}},
            },
        )
    write_json(
        directory / "plan.json",
        {
            "base": Config.model_validate(base).model_dump(mode="json"),
            "arms": [
                {
                    "name": label,
                    "written": repeat or label,
                    "condition": {"setting": {"field": "model.init", "value": init}} if repeat else {},
                    "changes": {"model.init": init} if repeat else {},
                    "overrides": {f"model.{key}": value for key, value in SWITCHES[arm].items()}
                    | ({"model.init": init} if repeat else {}),
                    "config": config(arm, init),
                    "repeats": repeat,
                }
                for label, arm, init, repeat in planned
            ],
            "claims": judged,
            "trials": [
                {"id": ids[label, seed], "arm": label, "seed": seed} for seed in range(seeds) for label, *_ in planned
            ],
        },
    )
    parameters = {
        arm: (212_672 if SWITCHES[arm].get("parameters") != "separate" else 408_832) + (66_048 if arm == "t5" else 0)
        for arm in arms
    }
    flops = {
        "gpt": 1.01e12,
        "unilm": 1.03e12,
        "mixed": 1.01e12,
        "unshared_causal": 1.0e12,
        "unshared": 1.02e12,
        "t5": 1.11e12,
    }
    write_json(
        directory / "audit.json",
        {
            "arms": {
                label: {
                    "differs": {
                        f"model.{key}": value
                        for key, value in SWITCHES[arm].items()
                        if (key, value) != ("input_attention", "causal")
                    }
                    | ({"model.init": init} if repeat else {}),
                    "parameters": parameters[arm],
                    "total_parameters": parameters[arm] + 131_072,
                    "train_flops": int(flops[arm]),
                    "seen_tokens": 599_040,
                    "loss_tokens": 297_210,
                    "common_init": sha(f"init {init} 0"),
                    "data_order": sha("order 0"),
                }
                for label, arm, init, repeat in planned
            },
            "claims": [
                {
                    "arm": claim["arm"],
                    "against": claim["against"],
                    "varies": ["model.parameters"] if "unshared_causal" in claim["arm"] else ["model.input_attention"],
                    "undeclared": [],
                    "holds": [
                        {
                            "quantity": "seen_tokens",
                            "arm": 599_040,
                            "against": 599_040,
                            "tolerance": 0.0,
                            "holds": True,
                        },
                        {
                            "quantity": "loss_tokens",
                            "arm": 297_210,
                            "against": 297_210,
                            "tolerance": 0.0,
                            "holds": True,
                        },
                    ],
                    "same_start": True,
                    "same_data": True,
                    "faults": [],
                    "passed": True,
                }
                for claim in judged
            ],
            "recorded": {"trials": len(ids), "mismatches": []},
            "passed": True,
        },
    )
    write_json(
        directory / "data.json",
        {
            "name": "stdlib",
            "hash": sha("corpus"),
            "splits": {
                "train": {"documents": 1210, "bytes": 11_210_332, "tokens": 3_902_114},
                "tune": {"documents": 64, "bytes": 602_118, "tokens": 210_334},
                "test": {"documents": 71, "bytes": 611_540, "tokens": 213_008},
            },
            "duplicates": 7,
            "tokenizer": "bpe",
            "vocabulary": 1024,
        },
    )
    write_json(
        directory / "environment.json",
        environment
        or {
            "versions": {"paribus": "0.1.0", "python": "3.11.9", "torch": "2.13.0"},
            "processor": "A processor with avx512_bf16",
            "cores": 2,
            "device": "cpu",
            "dtype": "bfloat16",
            "compile": False,
            "threads": 1,
            "command": "paribus run decoder-only --out runs/decoder-only",
            "started": "2026-01-05T09:30:00+00:00",
        },
    )
    rng = np.random.default_rng(0)
    windows = 96
    documents = np.sort(rng.integers(0, 31, windows))
    save_file(
        {
            "document": documents.astype(np.int64),
            "tokens": np.full(windows, 63, dtype=np.int64),
            "bytes": rng.integers(180, 240, windows).astype(np.int64),
            "split": np.resize([32, 64, 96], windows).astype(np.int64),
        },
        directory / "test_windows.safetensors",
    )
    finals: dict[str, dict[int, float]] = {}
    for label, arm, init, _ in planned:
        for seed in range(seeds):
            folder = directory / "trials" / ids[label, seed]
            write_json(
                folder / "trial.json",
                {
                    "id": ids[label, seed],
                    "arm": label,
                    "seed": seed,
                    "config": config(arm, init),
                    "runtime": {"device": "cpu", "dtype": "bfloat16", "compile": False, "threads": 1},
                },
            )
            shift = SHIFT[arm] + (0.031 + (0.05 if arm == "unilm" else 0.0) if init != "fan_in" else 0.0)
            final = 2.41 + shift + 0.012 * np.sin(seed * 2.1) + rng.normal(0, 0.004)
            ends = steps if (arm, seed) not in unfinished else steps // 3
            exploded = (arm, seed) in diverged and init == "fan_in"
            with open(folder / "metrics.jsonl", "w", encoding="utf-8") as file:
                for step in range(1, (ends if not exploded else steps // 2) + 1):
                    nats = 4.6 * final / 2.41 * 0.5 + 4.6 * np.exp(-step / (steps / 9)) + rng.normal(0, 0.08)
                    if exploded and step > steps // 2 - 20:
                        nats *= 1.3 ** (step - steps // 2 + 20)
                    row = {
                        "step": step,
                        "tokens": step * 1024,
                        "loss": None if exploded and step == steps // 2 else round(float(nats), 5),
                        "learning_rate": 2e-3,
                        "gradient_norm": 0.8,
                        "seconds": 0.03,
                    }
                    file.write(json.dumps(row) + "\n")
                if (arm, seed) in unfinished:
                    file.write('{"step": 201, "tok')
            with open(folder / "curve.jsonl", "w", encoding="utf-8") as file:
                for point in range(13):
                    step = round(steps * point / 12)
                    if step > ends or (exploded and step > steps // 2):
                        break
                    bits = final + 0.02 + 5.2 * np.exp(-6.5 * (point / 12) ** 0.7) * (1 + 0.02 * shift * 10)
                    row = {"step": step, "tokens": step * 1024, "nats_per_token": bits * 1.91, "bits_per_byte": bits}
                    file.write(json.dumps(row) + "\n")
            if (arm, seed) in unfinished:
                continue
            result: dict[str, Any] = {
                "status": "diverged" if exploded else "done",
                "reason": f"The loss became NaN at step {steps // 2}." if exploded else None,
                "test": None,
                "steps": steps // 2 if exploded else steps,
                "seen_tokens": steps * 1024,
                "loss_tokens": steps * 508,
                "parameters": parameters[arm],
                "total_parameters": parameters[arm] + 131_072,
                "hashes": {
                    "common_init": sha(f"init {init} {seed}"),
                    "init": sha(f"init {init} {seed} {parameters[arm]}"),
                    "data_order": sha(f"order {seed}"),
                    "test_windows": sha("windows"),
                },
                "seconds": {"setup": 1.2, "training": 24.0 + len(label) / 10, "evaluation": 1.9, "checkpoint": 0.2},
                "tokens_per_second": 24_100.0 - 100 * len(label),
                "peak_memory_bytes": 512_000_000,
            }
            if not exploded:
                finals.setdefault(label, {})[seed] = final
                result["test"] = {
                    "nats_per_token": final * 1.91,
                    "bits_per_byte": final,
                    "by_split": {
                        str(split): {
                            "nats_per_token": (final + bump) * 1.91,
                            "bits_per_byte": final + bump + shift * gain,
                            "windows": windows // 3,
                        }
                        for split, bump, gain in ((32, 0.06, 0.4), (64, 0.0, 0.0), (96, -0.05, 0.5))
                    },
                }
            write_json(folder / "result.json", result)
    if verdicts:
        write_json(
            directory / "verdicts.json",
            {
                "confidence": 0.95,
                "contrasts": len(judged),
                "claims": [_judge(claim, finals, len(judged)) for claim in judged],
            },
        )
    return directory


def _judge(claim: dict[str, Any], finals: dict[str, dict[int, float]], number: int) -> dict[str, Any]:
    arm, against, margin = finals.get(claim["arm"], {}), finals.get(claim["against"], {}), claim["margin"]
    gains = [float(against[seed] - arm[seed]) for seed in sorted(arm.keys() & against.keys())]
    verdict, low, high, sd = "undecided", None, None, None
    if len(gains) > 1:
        sd = float(np.std(gains, ddof=1))
        half = float(stats.t.ppf(1 - 0.025 / number, len(gains) - 1)) * sd / len(gains) ** 0.5
        low, high = float(np.mean(gains)) - half, float(np.mean(gains)) + half
        side = {
            "better": (low > margin, high < margin),
            "not_better": (high < margin, low > margin),
            "worse": (high < -margin, low > -margin),
            "not_worse": (low > -margin, high < -margin),
            "equal": (-margin < low and high < margin, low > margin or high < -margin),
        }[claim["expect"]]
        verdict = "supported" if side[0] else "refuted" if side[1] else "undecided"
    fields = ("says", "arm", "against", "metric", "expect", "margin", "estimand", "condition")
    return {field: claim[field] for field in fields} | {
        "verdict": verdict,
        "estimate": float(np.mean(gains)) if gains else None,
        "low": low,
        "high": high,
        "seeds": len(gains),
        "documents": 31,
        "degrees_of_freedom": float(len(gains) - 1) if low is not None else None,
        "sd_seed": sd,
        "sd_document": 0.021 if gains else None,
        "per_seed": gains,
        "seeds_needed": 9 if verdict == "undecided" and gains else None,
        "detectable": 0.034 if gains else None,
        "secondary": {
            "sign_flip_p": 0.25,
            "sign_flip_least_p": 2 / 2 ** max(1, len(gains)),
            "bootstrap": [low, high],
            "wilcoxon_p": 0.25,
            "test_set_interval": [low, high],
        },
        "note": None if gains else "No seed has a result in both arms.",
    }
