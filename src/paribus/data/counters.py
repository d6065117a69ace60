"""Random numbers as a pure function of (key, counter): no state to save, no order of calls to keep."""

import hashlib

import numpy as np
import numpy.typing as npt

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(1)


def stable_key(*parts: object) -> np.uint64:
    """Hash `parts`, by their text, to 64 bits; the same in every process and version of Python."""
    digest = hashlib.blake2b("\x1f".join(str(part) for part in parts).encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "big"))


def random_bits(key: npt.NDArray[np.uint64] | np.uint64, counter: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    """64 random bits for each (key, counter): the output function of SplitMix64 (Steele et al. 2014, fig. 10).

    `key` and `counter` broadcast. The bits do not depend on the version of numpy, as its generators' streams may.
    """
    counters = np.atleast_1d(np.asarray(counter)).astype(np.uint64)
    bits = np.atleast_1d(key) + _GOLDEN * (counters + _SHIFT)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(bits ^ (bits >> np.uint64(31)))


def uniforms(key: npt.NDArray[np.uint64] | np.uint64, counter: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Uniform numbers in [0, 1) with 53 bits, one for each (key, counter)."""
    return (random_bits(key, counter) >> np.uint64(11)).astype(np.float64) * 2.0**-53
