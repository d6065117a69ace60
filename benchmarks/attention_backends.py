"""Dense mask against FlexAttention, under the product's own masks: first that they agree, then how long they take.

One attention over a pair, half of it input, 8 heads over 4 key heads of size 64, batch 2. Agreement is with the dense mask on the
CPU in float32, gradients of queries, keys, values and learned biases included on a GPU. Speed is forward, on a GPU with backward
too, in bfloat16 there; `share` is the part of the square's blocks that FlexAttention computes, and what it could win at best.
`python benchmarks/attention_backends.py [--lengths 512,1024] [--repeats 10] [--eager]` prints a table and one JSON line.

A CPU has no backward pass of FlexAttention, so there it is forward alone: agreement eagerly, speed compiled by g++ (tens of
seconds for each rule) unless `--eager`, which computes the square and says nothing about speed. Not run on a GPU so far: no
number of this file is known there.
"""

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from paribus.models import flex
from paribus.models.attention import attend
from paribus.models.layers import View
from paribus.models.positions import RelativeBias
from paribus.models.sight import Backend, Layout, Sight
from paribus.spec.model import Model
from paribus.training.runtime import Runtime, prepare_process

RULES = ("causal", "bidirectional", "forward_backward_heads", "window", "permuted_triangle")
BATCH, HEADS, KEY_HEADS, SIZE = 2, 8, 4, 64
CHECKED = 515
TOLERANCE = {"forward": 1e-4, "backward": 1e-3}


class Bench:
    """A rule and a position encoding, seen by either back end on a device."""

    def __init__(self, rule: str, position: str, length: int, dtype: torch.dtype) -> None:
        self.model = Model(
            input_attention=rule,
            position=position,  # type: ignore[arg-type]
            heads=HEADS,
            kv_heads=KEY_HEADS,
            head_size=SIZE,
            layers=1,
            attention_window=256,
        )
        generator = torch.Generator().manual_seed(0)
        self.length, self.dtype = length, dtype
        shapes = ((BATCH, heads, length, SIZE) for heads in (HEADS, KEY_HEADS, KEY_HEADS, HEADS))
        self.start = [torch.randn(shape, generator=generator) for shape in shapes]
        self.table = RelativeBias(self.model)
        torch.nn.init.normal_(self.table.weight, generator=generator)

    def view(self, backend: Backend, device: torch.device) -> View:
        """How the one layer sees."""
        sight = Sight(self.model)
        sight.backend = backend
        whole, table = range(self.length), self.table.to(device)
        layout = Layout(self.length // 2, None, torch.arange(BATCH, device=device))
        biased = table if self.model.position == "t5_relative" else None
        return sight.views(layout, whole, whole, False, biased, device)[0]

    def tensors(self, device: torch.device, gradients: bool) -> list[Tensor]:
        """Queries, keys, values, and what the output is multiplied with before the gradient."""
        return [x.to(device, self.dtype).requires_grad_(gradients and n < 3) for n, x in enumerate(self.start)]

    def results(self, backend: Backend, device: torch.device, gradients: bool) -> list[Tensor]:
        """The output, and the gradients if asked for, on the CPU."""
        query, key, value, weights = self.tensors(device, gradients)
        self.table.zero_grad()
        with torch.set_grad_enabled(gradients):
            view = self.view(backend, device)
            out = attend(query, key, value, view.mask, view.bias)
        found = [out.detach()]
        if gradients:
            (out * weights).sum().backward()  # type: ignore[no-untyped-call]
            found += [x.grad for x in (query, key, value, self.table.weight) if x.grad is not None]
        return [x.detach().float().cpu() for x in found]


def agreement(rule: str, position: str, device: torch.device) -> dict[str, float]:
    """Largest differences from the dense mask on the CPU, over the largest value."""
    bench, gradients = Bench(rule, position, CHECKED, torch.float32), device.type == "cuda"
    expected = bench.results("dense", torch.device("cpu"), gradients)
    found = bench.results("flex", device, gradients)
    apart = [float((a - b).abs().max() / a.abs().max()) for a, b in zip(expected, found, strict=True)]
    return {"forward": apart[0], **({"backward": max(apart[1:])} if gradients else {})}


def milliseconds(bench: Bench, backend: Backend, device: torch.device, repeats: int) -> tuple[float, float | None]:
    """Median time of forward, and of forward and backward on a GPU; masks are made beforehand, as for a static rule."""

    def timed(run: Callable[[], object]) -> float:
        times = []
        for _ in range(repeats + 3):
            if device.type == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(1000 * (time.perf_counter() - start))
        return statistics.median(times[3:])

    query, key, value, weights = bench.tensors(device, device.type == "cuda")
    with torch.no_grad():
        view = bench.view(backend, device)
        forward = timed(lambda: attend(query, key, value, view.mask, view.bias))
    if device.type != "cuda":
        return forward, None

    def there_and_back() -> object:
        out = attend(query, key, value, view.mask, view.bias)
        return torch.autograd.grad((out * weights).sum(), [query, key, value])

    both = timed(there_and_back)
    return forward, both


def share(bench: Bench) -> float:
    """The part of the square's blocks that is computed."""
    mask = bench.view("flex", torch.device("cpu")).mask
    assert isinstance(mask, flex.Flex)
    return 1.0 if mask.blocks is None else 1 - mask.blocks.sparsity() / 100


def main() -> None:
    """Check, then time."""
    cuda = torch.cuda.is_available()
    options = argparse.ArgumentParser()
    options.add_argument("--lengths", default="512,1024,2048,4096,8192" if cuda else "512,1024,2048")
    options.add_argument("--repeats", type=int, default=10)
    options.add_argument("--eager", action="store_true")
    chosen = options.parse_args()
    device = torch.device("cuda" if cuda else "cpu")
    dtype = torch.bfloat16 if cuda else torch.float32
    prepare_process(Runtime(device.type, "float32", False, 1))
    warnings.filterwarnings("ignore", message="flex_attention called without")
    agreements = {}
    print(f"{'largest difference from the dense mask on the CPU, float32':60} {'forward':>9} {'backward':>9}")
    for rule, position in [
        *((rule, "none") for rule in RULES),
        ("bidirectional", "alibi"),
        ("bidirectional", "t5_relative"),
    ]:
        apart = agreements[f"{rule}, {position}"] = agreement(rule, position, device)
        backward = f"{apart['backward']:9.1e}" if "backward" in apart else f"{'-':>9}"
        print(f"{rule + ', ' + position:60} {apart['forward']:9.1e} {backward}", flush=True)
        assert all(value < TOLERANCE[name] for name, value in apart.items()), "the back ends disagree"
    if not cuda and not chosen.eager:
        import paribus.models.attention as home

        home.flex_attend = torch.compile(flex.flex_attend, dynamic=True, fullgraph=True)
    rows = []
    columns = f"{'dense':>8} {'flex':>8} {'ratio':>6}"
    print(
        f"\n{'ms, forward, then with backward':32} {'length':>6} {'share':>6} {columns} {columns if cuda else ''}".rstrip()
    )
    for length in map(int, chosen.lengths.split(",")):
        for rule in RULES:
            bench = Bench(rule, "none", length, dtype)
            dense, flexible = (milliseconds(bench, name, device, chosen.repeats) for name in ("dense", "flex"))
            row = {"rule": rule, "length": length, "share": share(bench), "dense": dense, "flex": flexible}
            rows.append(row)
            line = f"{rule:32} {length:6} {row['share']:6.2f} {dense[0]:8.2f} {flexible[0]:8.2f} {dense[0] / flexible[0]:6.2f}"
            if dense[1] is not None and flexible[1] is not None:
                line += f" {dense[1]:8.2f} {flexible[1]:8.2f} {dense[1] / flexible[1]:6.2f}"
            print(line, flush=True)
    name = torch.cuda.get_device_name() if cuda else "cpu"
    print(
        json.dumps({"benchmark": "attention_backends", "device": name, "agreement": agreements, "milliseconds": rows})
    )


if __name__ == "__main__":
    main()
