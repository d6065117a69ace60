"""What a trial runs on: device, type of matrix products, compilation, threads. Part of its record, because bits depend on it."""

import ctypes
import os
import shutil
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch._dynamo as dynamo

from paribus.errors import StudyError
from paribus.models.flex import SMALLEST_HEAD
from paribus.models.sight import Backend
from paribus.spec.study import Config


@dataclass(frozen=True)
class Runtime:
    """Fixed when a study starts, the same for all its trials, reused when one resumes."""

    device: str
    dtype: str
    compile: bool
    threads: int
    attention: Backend = "dense"

    def as_dict(self) -> dict[str, Any]:
        """For the trial's record."""
        return asdict(self)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The type of matrix products."""
        return torch.bfloat16 if self.dtype == "bfloat16" else torch.float32


def has_bfloat16(device: str) -> bool:
    """Whether the hardware has instructions for products of bfloat16 matrices."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    checks = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return any(bool(check()) for check in checks if check is not None)


@lru_cache
def product_rate(dtype: torch.dtype, width: int = 256, rows: int = 2048, rounds: int = 5) -> float:
    """Measured FLOP/s of a product of that type on one CPU thread, the best of a few rounds (about 50 ms)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        a, b = torch.ones(rows, width, dtype=dtype), torch.ones(width, 4 * width, dtype=dtype)
        best = float("inf")
        for _ in range(rounds + 1):
            start = time.perf_counter()
            a @ b
            best = min(best, time.perf_counter() - start)
        return 2 * rows * width * 4 * width / best
    finally:
        torch.set_num_threads(threads)


def fastest_dtype(device: str) -> str:
    """bfloat16 where the hardware has instructions for it and they are faster than float32's.

    The second condition is measured: some CPUs that list avx512_bf16 multiply bfloat16 at half the speed of float32.
    """
    if not has_bfloat16(device):
        return "float32"
    if device == "cuda" or product_rate(torch.bfloat16) > 1.2 * product_rate(torch.float32):
        return "bfloat16"
    return "float32"


# What a compiled step saves of an eager one's time, what compiling costs once and in every further process (seconds), and
# the share of the product rate that an eager step reaches; benchmarks/training_speed.py prints them.
SAVED_SHARE = 0.15
FIRST_COMPILE, WARM_COMPILE = 60.0, 10.0
EAGER_SHARE = 0.4
CUDA_RATE = 2e13

FLEX_FROM = 512
"""Tokens of a window from which `auto` takes FlexAttention: below, a few blocks of 128 leave nothing out."""


def resolve(configs: Sequence[Config], flops_per_trial: float, trials: int, workers: int) -> Runtime:
    """Decide what `auto` means here, once for the whole study.

    `configs`: of all arms. `flops_per_trial`: training FLOPs of the most expensive arm. Raises StudyError where a device or a
    back end was asked for that is not there.
    """
    training = configs[0].training
    if training.device == "cuda" and not torch.cuda.is_available():
        raise StudyError("training.device = cuda, but torch sees no CUDA device here: use auto or cpu")
    device = "cuda" if training.device != "cpu" and torch.cuda.is_available() else "cpu"
    dtype = fastest_dtype(device) if training.dtype == "auto" else training.dtype
    if training.compile == "always" and not can_compile(device):
        raise StudyError(
            "training.compile = always, but no C++ compiler with Python's headers works here: use auto or never"
        )
    compiled = training.compile == "always"
    if training.compile == "auto":
        kind = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        rate = EAGER_SHARE * product_rate(kind) if device == "cpu" else CUDA_RATE
        seconds = flops_per_trial / rate
        per_worker = -(-trials // workers)
        cost = FIRST_COMPILE + per_worker * WARM_COMPILE
        compiled = per_worker * seconds * SAVED_SHARE > cost and can_compile(device)
    return Runtime(device, dtype, compiled, training.threads, attention_backend(configs, device))


def attention_backend(configs: Sequence[Config], device: str) -> Backend:
    """The back end of softmax attention on `device`, the same for all arms.

    Raises StudyError where FlexAttention was asked for and cannot train.
    """
    asked = configs[0].training.attention
    smallest = min(config.model.head_size for config in configs)
    if asked == "flex" and device == "cpu":
        raise StudyError(
            "training.attention = flex, but FlexAttention has no backward pass on a CPU: use auto or dense, or a CUDA device"
        )
    if asked == "flex" and smallest < SMALLEST_HEAD:
        raise StudyError(
            f"training.attention = flex, but FlexAttention takes no heads smaller than {SMALLEST_HEAD}, and an arm has "
            f"model.head_size = {smallest}: use auto or dense, or larger heads"
        )
    if asked != "auto":
        return asked
    long = configs[0].data.window >= FLEX_FROM
    return "flex" if device == "cuda" and long and smallest >= SMALLEST_HEAD else "dense"


@lru_cache
def can_compile(device: str) -> bool:
    """Whether torch.compile can build code here. A CPU needs a C++ compiler that finds Python's headers."""
    if device == "cuda":
        return True
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        return False
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "trivial.cpp"
        source.write_text("#include <Python.h>\nint main() { return 0; }\n")
        command = [compiler, "-fsyntax-only", f"-I{sysconfig.get_path('include')}", str(source)]
        try:
            return subprocess.run(command, capture_output=True, timeout=60).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            return False


MALLOC_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
"""Keeps glibc from returning big buffers to the kernel at every step (tens of thousands of page faults otherwise)."""


def keep_freed_memory() -> None:
    """Ask glibc, in this very process, what MALLOC_ENVIRONMENT asks at its start; elsewhere do nothing."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    m_trim_threshold, m_top_pad, m_mmap_threshold = -1, -2, -3
    mallopt(m_mmap_threshold, 1 << 30)
    mallopt(m_trim_threshold, 1 << 30)
    mallopt(m_top_pad, 64 << 20)


def prepare_process(runtime: Runtime) -> None:
    """Pin this process to the runtime: threads, exact float32, memory."""
    torch.set_num_threads(runtime.threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    keep_freed_memory()
    # Past this number dynamo would silently run eager, and bits would change in the middle of a trial.
    dynamo.config.recompile_limit = 256
    dynamo.config.accumulated_recompile_limit = 4096
