"""One iteration of the simulation against nanoGPT's own loop and `generate`: same size, batch, data, machine.

    python benchmarks/simulate.py [--nanogpt DIR] [--preset mini] [--n 2000] [--threads 1,2] [--out FILE.json]
    python benchmarks/simulate.py --preset paper [--steps 20] [--out FILE.json]

DIR is a clone of https://github.com/karpathy/nanoGPT; without it karat alone is measured. Both sides take
turns in one process, each figure is the median of the turns, and seconds are those of the processor: the
wall is told beside them, and where both differ much the machine was busy.

Tokens are useful ones: no padding; of samples what stands before the end, and the end. nanoGPT is sampled
in the two ways that it offers: one row that goes on and on (each token useful), and many rows to the full
length (useful up to the first end). A full iteration is training to equal loss on real held-out texts,
writing n texts, and measuring them. nanoGPT gets its own AdamW settings, the best of several learning rates
and lengths, and stops as soon as it is there; its looks at the held-out texts are not timed.

The preset `paper` runs one full iteration on CUDA and gives model FLOP utilisation; where there is no CUDA
it says so and ends, unless --steps asks for a short try on the CPU.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import _nanogpt
import numpy as np
import torch

from karat import records, registry
from karat.generation.devices import bf16_pays
from karat.training.causal_codec import END
from karat.training.causal_presets import PRESETS
from karat.training.trainers.gpt import Gpt

KINDS = (("nanogpt_dropout", False, 0.2), ("nanogpt", False, 0.0), ("nanogpt_bf16", True, 0.0))
SHEETS = {"H100": 989, "H200": 989, "A100": 312, "L40S": 362, "L4": 121, "A10": 125, "RTX 4090": 165}
"""Dense bf16 TFLOP/s by the makers' data sheets."""


def clocked(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What work gives, and its seconds on the processor and on the wall."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return found, {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def products(shape: tuple[int, int, int], dtype: Any, device: str, seconds: float = 0.5) -> float:
    """FLOP/s of one matrix product of this shape [rows, inner, columns], the best of many short spells."""
    rows, inner, columns = shape
    a = torch.randn(rows, inner, device=device, dtype=dtype)
    b = torch.randn(inner, columns, device=device, dtype=dtype)
    repeats, best, begun = 2, 0.0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        _, spent = clocked(lambda: [a @ b for _ in range(repeats)])  # noqa: B023
        clock = spent["wall" if device == "cuda" else "cpu"] or 1e-9
        best = max(best, 2.0 * rows * inner * columns * repeats / clock)
        repeats = repeats * 2 if clock < 0.02 else repeats
    return best


def flops_a_token(config: Any, length: float) -> float:
    """Forward and backward: 6 for each number in a matrix product, and attention over rows of this length."""
    hidden = config.layers * (4 + 2 * config.expand) * config.width**2 + config.vocab_size * config.width
    return float(6 * hidden + 12 * config.layers * config.width * length)


class Ours:
    """karat's side: the trainer, the texts that it learns, real ones held out, and the last model."""

    def __init__(self, trainer: Gpt, task: Any, n: int, seed: int) -> None:
        self.trainer, self.task, self.n = trainer, task, n
        texts = task.sample(n, seed=seed)
        self.human = records.from_rows([{"text": text} for text in texts], datatype="text")
        self.held = task.sample(1000, seed=seed + 10_000)
        self.model: Any = None

    def train(self, seed: int, steps: int = 0) -> int:
        """Fit; returns the useful tokens of all steps."""
        trainer = Gpt(**{**asdict(self.trainer), "steps": steps or self.trainer.steps})
        self.model = trainer.fit(self.human, seed=seed)
        return int(self.model.history.tokens)

    def loss(self) -> float:
        """Nats a token of the held-out texts, their ends included."""
        found = self.model.predict(records.from_rows([{"text": text} for text in self.held], datatype="text"))
        return float(found.surprise.sum() / found.tokens.sum())

    def write(self, seed: int, temperature: float) -> tuple[list[str], int]:
        """n texts, and their tokens with the ends."""
        texts = self.model.generate(self.n, temperature=temperature, seed=seed).texts()
        return texts, sum(len(self.task.tokens(text)) + 1 for text in texts)


def measured(task: Any, texts: Sequence[str]) -> Any:
    """The measures of an iteration."""
    from karat.simulation.measures import measure

    return measure([task.tokens(text) for text in texts], task.verify(texts))


def rows_for_peer(ours: Ours) -> tuple[np.ndarray, list[list[int]]]:
    """The same texts as one stream, and the held-out ones as rows; ends alone stand between texts."""
    codec = ours.model.codec
    stream = [token for text in ours.human.texts() for token in codec.encode(text, "")[codec.prefix :]]
    held = [[END, *codec.encode(text, "")[codec.prefix :]] for text in ours.held]
    return np.asarray([END, *stream]), held


def median(turns: Sequence[dict[str, float]], clock: str) -> float:
    """Median tokens a second over the turns."""
    return statistics.median(turn["tokens"] / max(turn[clock], 1e-9) for turn in turns)


def training(ours: Ours, nano: Any, threads: int, repeats: int, steps: int) -> dict[str, Any]:
    """Useful training tokens a second of both, in turns.

    nanoGPT as its character model trains (dropout 0.2, fp32 on the CPU), without dropout, and in bf16.
    """
    torch.set_num_threads(threads)
    ours.trainer = Gpt(**{**asdict(ours.trainer), "threads": threads})
    turns: dict[str, list[dict[str, float]]] = {"karat": []}
    for turn in range(repeats + 1):
        tokens, spent = clocked(lambda turn=turn: ours.train(turn, steps))
        turns["karat"].append({"tokens": tokens, **spent})
        for name, half, dropout in KINDS if nano else ():
            peer = peer_of(ours, nano, 1e-3, steps, turn, half, dropout)
            tokens, spent = clocked(lambda peer=peer: peer.steps(steps))
            turns.setdefault(name, []).append({"tokens": tokens, **spent})
    # The first turn of each warms up.
    return {
        name: {clock: median(found[1:], clock) for clock in ("cpu", "wall")} for name, found in turns.items()
    }


def peer_of(
    ours: Ours, nano: Any, lr: float, horizon: int, seed: int, half: bool = False, dropout: float = 0.0
) -> _nanogpt.Peer:
    """A nanoGPT of our model's shape, on our data, with as many tokens a batch."""
    config = ours.model.causal.config
    shape = {name: getattr(config, name) for name in ("layers", "heads", "width", "context", "vocab_size")}
    batch = max(1, round(PRESETS[ours.trainer.preset].batch_tokens / config.context))
    stream, _ = rows_for_peer(ours)
    return _nanogpt.Peer(
        nano, stream, shape, batch=batch, lr=lr, horizon=horizon, seed=seed, half=half, dropout=dropout
    )


def sampling(ours: Ours, peer: Any, repeats: int, temperature: float, steady: int) -> dict[str, Any]:
    """Useful sampled tokens a second of both, in turns."""
    turns: dict[str, list[dict[str, float]]] = {"karat": []}
    context = ours.model.causal.config.context
    for turn in range(repeats + 1):
        (_, tokens), spent = clocked(lambda turn=turn: ours.write(turn, temperature))
        turns["karat"].append({"tokens": tokens, **spent})
        if peer is None:
            continue
        # Steady state: the context is full. Its start is timed alone and taken off.
        _, start = clocked(lambda turn=turn: peer.generate(1, context, temperature, END, turn))
        _, whole = clocked(lambda turn=turn: peer.generate(1, context + steady, temperature, END, turn))
        spent = {clock: max(whole[clock] - start[clock], 1e-9) for clock in whole}
        turns.setdefault("nanogpt_one_row", []).append({"tokens": steady, **spent})
        made, spent = clocked(lambda turn=turn: peer.generate(256, context - 1, temperature, END, turn))
        useful = sum(row.index(END) + 1 if END in row else len(row) for row in made)
        found = {"tokens": useful, "rows": 256, "useful": useful / (256 * (context - 1)), **spent}
        turns.setdefault("nanogpt_256_rows", []).append(found)
    result: dict[str, Any] = {
        name: {clock: median(found[1:], clock) for clock in ("cpu", "wall")} for name, found in turns.items()
    }
    if peer is not None:
        many = turns["nanogpt_256_rows"][1:]
        result["nanogpt_256_rows"]["useful"] = statistics.median(turn["useful"] for turn in many)
        for clock in ("cpu", "wall"):
            result["nanogpt_256_rows"][f"{clock}_a_text"] = statistics.median(t[clock] / 256 for t in many)
    return result


def to_equal_loss(
    ours: Ours, nano: Any, target: float, rates: Sequence[float], lengths: Sequence[int], every: int
) -> tuple[dict[str, Any], Any]:
    """The least seconds in which nanoGPT reaches a held-out loss, over rates and lengths; and that model."""
    tried, best, model = [], None, None
    _, held = rows_for_peer(ours)
    for length in lengths:
        for lr in rates:
            peer = peer_of(ours, nano, lr, length, 0)
            spent, lowest, there = {"cpu": 0.0, "wall": 0.0}, float("inf"), False
            while peer.done < length and not there:
                _, more = clocked(lambda peer=peer, rest=length - peer.done: peer.steps(min(every, rest)))
                spent = {clock: spent[clock] + more[clock] for clock in spent}
                lowest = min(lowest, peer.loss(held))
                there = lowest <= target
                if best is not None and spent["cpu"] >= best["cpu"]:
                    break  # cannot become the least
            row = {"lr": lr, "length": length, "steps": peer.done, "loss": lowest, "reached": there, **spent}
            print(f"  nanoGPT lr {lr:g}, planned {length} steps: {lowest:.4f} after {peer.done} steps, "
                  f"{spent['cpu']:.1f} CPU s{', there' if there else ''}", flush=True)  # fmt: skip
            tried.append(row)
            if there and (best is None or row["cpu"] < best["cpu"]):
                best, model = row, peer
            elif model is None:
                model = peer
    return {"target": target, "tried": tried, "best": best}, model


def table(title: str, found: dict[str, Any], unit: str) -> None:
    """Print both sides and the ratios."""
    print(f"\n{title}\n{'':<22}{unit + ', CPU':>18}{unit + ', wall':>18}{'karat/it, CPU':>16}")
    for name, row in found.items():
        ratio = found["karat"]["cpu"] / row["cpu"]
        print(f"{name:<22}{row['cpu']:>18,.0f}{row['wall']:>18,.0f}{ratio:>15.2f}x")


def compare(given: argparse.Namespace) -> dict[str, Any]:
    """All figures of a small preset."""
    nano = _nanogpt.module(given.nanogpt) if given.nanogpt else None
    if nano is None:
        print("no --nanogpt DIR: karat alone is measured")
    task = registry.make("tasks", given.task)
    ours = Ours(Gpt(preset=given.preset, device="cpu"), task, given.n, 0)
    torch.set_num_threads(1)
    whole = []
    for seed in range(given.repeats):
        _, train = clocked(lambda seed=seed: ours.train(seed))
        loss = ours.loss()
        (texts, _), write = clocked(lambda seed=seed: ours.write(seed, given.temperature))
        found, judge = clocked(lambda texts=texts: measured(task, texts))
        whole.append({"train": train, "write": write, "measure": judge, "loss": loss, "valid": found.valid})
    config, history = ours.model.causal.config, ours.model.history
    result: dict[str, Any] = {"karat_iteration": whole, "parameters": ours.model.causal.parameters_count}
    print(
        f"{given.preset}: {config.layers} layers, {config.heads} heads, width {config.width}, "
        f"context {config.context}, vocabulary {config.vocab_size}, {result['parameters']:,} parameters"
    )
    half = bf16_pays(config.width)
    dtype = torch.bfloat16 if half else torch.float32
    tokens = history.tokens // history.steps
    result["ceiling"] = {
        "dtype": str(dtype),
        "square_1024": products((1024, 1024, 1024), dtype, "cpu"),
        "feed_forward": products((tokens, config.width, config.expand * config.width), dtype, "cpu"),
    }
    result["training"] = {}
    for threads in given.threads:
        found = training(ours, nano, threads, given.repeats, given.probe)
        result["training"][str(threads)] = found
        table(f"training, {threads} threads", found, "tokens/s")
    torch.set_num_threads(1)
    ours.trainer = Gpt(preset=given.preset, device="cpu")
    ours.train(given.repeats - 1)
    mean = statistics.fmean(len(task.tokens(text)) + 1 for text in ours.human.texts())
    spent = flops_a_token(config, mean) * result["training"][str(given.threads[0])]["karat"]["cpu"]
    for name in ("square_1024", "feed_forward"):
        peak = result["ceiling"][name]
        print(f"share of the ceiling ({name}, {dtype}, {peak / 1e9:.0f} GFLOP/s): {spent / peak:.1%}")
    result["model_flops_a_second"] = spent
    target = statistics.median(turn["loss"] for turn in whole) + given.tolerance
    peer = None
    if nano is not None:
        print(
            f"\nnanoGPT to a held-out loss of {target:.4f} nats a token (karat's median + {given.tolerance})"
        )
        result["equal_loss"], peer = to_equal_loss(
            ours, nano, target, given.rates, given.lengths, given.every
        )
        result["nanogpt_parameters"] = peer.parameters
    result["sampling"] = sampling(ours, peer, given.repeats, given.temperature, given.steady)
    table(f"sampling, 1 thread, temperature {given.temperature}", result["sampling"], "tokens/s")
    iteration(result, given.n)
    return result


def iteration(result: dict[str, Any], n: int) -> None:
    """Print and note the seconds of a full iteration of both at equal quality."""
    whole = result["karat_iteration"]
    parts = {
        part: statistics.median(turn[part]["cpu"] for turn in whole) for part in ("train", "write", "measure")
    }
    mine = sum(parts.values())
    told = ", ".join(f"{part} {seconds:.2f}" for part, seconds in parts.items())
    print(f"\nfull iteration, n={n}: karat {mine:.2f} CPU s ({told})")
    result["iteration"] = {"karat": mine, "parts": parts}
    if "equal_loss" not in result:
        return
    best = result["equal_loss"]["best"]
    tried = result["equal_loss"]["tried"]
    spent = best["cpu"] if best else max(row["cpu"] for row in tried)
    write = result["sampling"]["nanogpt_256_rows"]["cpu_a_text"] * n
    theirs = spent + write + parts["measure"]
    word = "" if best else f"at least (never reached; lowest loss {min(r['loss'] for r in tried):.4f}) "
    print(f"full iteration, n={n}: nanoGPT {word}{theirs:.2f} CPU s (train {spent:.2f}, write {write:.2f} in "
          f"batches of 256, measure {parts['measure']:.2f}): {theirs / mine:.1f} times karat's")  # fmt: skip
    result["iteration"] |= {"nanogpt": theirs, "ratio": theirs / mine, "reached": best is not None}


def paper(given: argparse.Namespace) -> dict[str, Any]:
    """One full iteration of the paper's preset on CUDA, or a short try on the CPU."""
    cuda = torch.cuda.is_available()
    if not cuda:
        print("no CUDA device here: the preset 'paper' needs one for a full iteration"
              + ("" if given.steps else "; --steps 20 tries a few steps on the CPU"))  # fmt: skip
        if not given.steps:
            return {"device": "none"}
    device = "cuda" if cuda else "cpu"
    task = registry.make("tasks", given.task)
    trainer = Gpt(preset="paper", device=device, steps=given.steps, compiled=given.compiled)
    ours = Ours(trainer, task, given.n, 0)
    tokens, train = clocked(lambda: ours.train(0))
    loss = ours.loss()
    (texts, written), write = clocked(lambda: ours.write(0, given.temperature))
    found, judge = clocked(lambda: measured(task, texts))
    config = ours.model.causal.config
    dtype = torch.bfloat16 if cuda or bf16_pays(config.width) else torch.float32
    peak = products((8192, 8192, 8192) if cuda else (1024, 1024, 1024), dtype, device)
    mean = statistics.fmean(len(task.tokens(text)) + 1 for text in ours.human.texts())
    speed = tokens / train["wall"]
    model_flops = flops_a_token(config, mean) * speed
    name = torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine()
    size = ours.model.causal.parameters_count / 1e6
    print(f"{name}: {size:.1f} M parameters, {ours.model.history.steps} steps")
    print(f"train {train['wall']:.1f} s ({speed:,.0f} useful tokens/s), held-out loss {loss:.4f}; "
          f"write {write['wall']:.1f} s ({written / write['wall']:,.0f} tokens/s); "
          f"measure {judge['wall']:.1f} s; valid {found.valid:.1%}")  # fmt: skip
    print(f"full iteration {train['wall'] + write['wall'] + judge['wall']:.1f} s")
    print(f"model FLOP utilisation {model_flops / peak:.1%} of {peak / 1e12:.3g} TFLOP/s measured ({dtype})")
    sheet = next((value for part, value in SHEETS.items() if part in name), None) if cuda else None
    if sheet:
        print(f"model FLOP utilisation {model_flops / sheet / 1e12:.1%} of {sheet} TFLOP/s by the data sheet")
    return {
        "device": name, "train": train, "tokens": tokens, "loss": loss, "write": write, "written": written,
        "measure": judge, "valid": found.valid, "peak": peak, "dtype": str(dtype),
        "model_flops_a_second": model_flops, "sheet_tflops": sheet, "steps": ours.model.history.steps,
    }  # fmt: skip


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    numbers = lambda kind: lambda text: [kind(part) for part in text.split(",")]  # noqa: E731
    parser.add_argument("--nanogpt", type=Path, help="a folder with nanoGPT's model.py")
    parser.add_argument("--preset", choices=("mini", "small", "paper"), default="mini")
    parser.add_argument("--task", default="logic")
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=numbers(int), default=[1])
    parser.add_argument("--probe", type=int, default=100, help="steps of a timed spell of training")
    parser.add_argument("--steady", type=int, default=200, help="timed tokens of nanoGPT's one row")
    parser.add_argument("--rates", type=numbers(float), default=[1e-3, 3e-3, 1e-2])
    parser.add_argument("--lengths", type=numbers(int), default=[1000, 2000, 4000])
    parser.add_argument("--every", type=int, default=50, help="nanoGPT's steps between looks at the loss")
    parser.add_argument("--tolerance", type=float, default=0.005, help="nats a token that count as equal")
    parser.add_argument("--steps", type=int, default=0, help="steps of the preset paper; 0 is all")
    parser.add_argument("--compiled", action="store_true", help="torch.compile for the preset paper")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    result = paper(given) if given.preset == "paper" else compare(given)
    if given.out:
        told = {name: str(value) for name, value in vars(given).items()}
        machine = platform.processor() or platform.machine()
        result |= {"settings": told, "machine": machine, "torch": torch.__version__}
        given.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
