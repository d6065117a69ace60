"""How much memory a piece of work takes at its peak, beyond what was there before."""

import ctypes
import gc
from collections.abc import Callable

import torch


def peak_growth(work: Callable[[], object], device: torch.device) -> int | None:
    """Bytes by which `work` raises the memory in use at its peak; None where the system does not tell.

    On a GPU as its allocator counts them; on a CPU growth of the process's resident size (Linux), a page at a time, after what
    was freed before has been given back.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device)) - before
    _give_back()
    if not _forget_peak():
        return None
    before = _resident("VmRSS:")
    work()
    return max(0, _resident("VmHWM:") - before)


def _give_back() -> None:
    """Return freed memory to the system, where this is glibc: what is kept and used again would not show."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return


def _forget_peak() -> bool:
    """Let the peak of the resident size count from now on; whether that is possible here."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        return False
    return True


def _resident(line: str) -> int:
    """Bytes, as `/proc/self/status` has them on a line."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(text.split()[1]) * 1024 for text in file if text.startswith(line))
