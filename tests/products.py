"""A count of what torch multiplies."""

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class CountProducts(TorchDispatchMode):
    """Adds up 2nkm of every matrix product that is dispatched; those of activations with each other, attention's, apart."""

    def __init__(self) -> None:
        super().__init__()
        self.matrices = self.attention = 0

    @property
    def flops(self) -> int:
        return self.matrices + self.attention

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if "scaled_dot_product" in name:
            query, key = args[1:3] if "backward" in name else args[:2]
            assert query.shape[2] == 1, "a fused kernel multiplies what masks hide, or does not"
            self.attention += 4 * query.numel() * key.shape[2] * (2 if "backward" in name else 1)
        elif name == "linear":
            self.matrices += 2 * args[0].numel() * args[1].shape[0]
        elif name in ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "matmul"):
            a, b = args[-2:]
            flops = 2 * a.numel() * (b.shape[-1] if b.ndim > 1 else 1)
            if b.ndim > 2:
                self.attention += flops
            else:
                self.matrices += flops
        return out
