"""A causal transformer on a device other than the CPU, and runs that go on after a kill.

The device is played: tensors that say they are elsewhere ("meta"), compute on the CPU underneath, and refuse
what a real device refuses: to meet tensors of the host in one operation, or to be read by numpy unasked.
"""

from __future__ import annotations

import contextlib

import pytest

torch = pytest.importorskip("torch", reason="needs karat[torch]")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_flatten, tree_map_only  # noqa: E402

from karat.errors import BadSetting  # noqa: E402
from karat.generation import causal, causal_training, devices  # noqa: E402

FAR = torch.device("meta")
CONFIG = causal.CausalConfig(vocab_size=17, layers=2, heads=2, width=16, context=24, dropout=0.1)
ROWS = [[0, *([a] * n), 1] for a in (5, 6, 7) for n in range(2, 12)] * 4


class Distant(torch.Tensor):
    """A tensor that says it is far away."""

    @staticmethod
    def __new__(cls, near):
        made = torch.Tensor._make_wrapper_subclass(
            cls, near.shape, strides=near.stride(), storage_offset=near.storage_offset(), dtype=near.dtype,
            device=FAR, requires_grad=near.requires_grad,
        )  # fmt: skip
        made.near = near.detach()
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return operate(func, args, kwargs or {})


def operate(func, args, kwargs):
    """Run one operation on what lies underneath; the host's numbers must be scalars."""
    flat, _ = tree_flatten((args, kwargs))
    tensors = [x for x in flat if isinstance(x, torch.Tensor)]
    distant = [x for x in tensors if isinstance(x, Distant)]
    name, device = func.__name__, kwargs.get("device")
    moves = name.startswith(("_to_copy", "copy_"))
    if distant and len(distant) < len(tensors) and not moves:
        assert all(x.dim() == 0 for x in tensors if not isinstance(x, Distant)), f"{name} mixes devices"
    target = torch.device(device) if device is not None else (FAR if distant else torch.device("cpu"))
    if device is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    near_args, near_kwargs = tree_map_only(Distant, lambda x: x.near, (args, kwargs))
    made = func(*near_args, **near_kwargs)
    if name.split(".")[0].endswith("_") and isinstance(args[0], torch.Tensor):
        return args[0]
    if target.type != FAR.type:
        return made
    return tree_map_only(torch.Tensor, Distant, made)


class Elsewhere(TorchDispatchMode):
    """Makes what asks for the far device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return operate(func, args, kwargs or {})


@pytest.fixture
def far(monkeypatch):
    """The played device, as the one that `place` finds."""
    monkeypatch.setattr(devices, "place", lambda device: FAR if device == "far" else torch.device("cpu"))
    monkeypatch.setattr(devices, "autocast", lambda device, half: contextlib.nullcontext())
    # Played tensors have no inference mode; without gradients is as near as they come.
    for home, name in ((causal, "sample"), (causal, "score"), (causal_training, "loss_over")):
        monkeypatch.setattr(home, name, torch.no_grad()(getattr(home, name).__wrapped__))
    # Kernels for many tensors at once ask for the kind of device; what they do, they do one by one as well.
    adamw, clip = torch.optim.AdamW, torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(
        torch.optim, "AdamW", lambda *a, **k: adamw(*a, **{**k, "fused": False}, foreach=False)
    )
    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_norm_", lambda p, most, foreach: clip(p, most, foreach=False)
    )

    # The fused kernel is chosen by the kind of device, and rounds otherwise.
    def attend_rows(q, k, v):
        ahead = torch.full((q.shape[2], q.shape[2]), float("-inf"), device=q.device).triu(1)
        return torch.softmax(q @ k.transpose(-1, -2) + ahead, dim=-1) @ v

    monkeypatch.setattr(causal, "attend_rows", attend_rows)
    # Modules put other tensors in place of their own, as they must where the kind of tensor changes.
    monkeypatch.setattr(torch.__future__, "get_overwrite_module_params_on_conversion", lambda: True)
    with Elsewhere():
        yield "far"


def test_the_played_device_refuses_what_a_real_one_refuses(far) -> None:
    """No tensor of the host beside one of the device, no reading without a copy; else it proves nothing."""
    there = torch.ones(3, device=FAR)
    assert there.device.type == FAR.type and (there + 1).cpu().tolist() == [2, 2, 2]
    with pytest.raises(AssertionError, match="mixes devices"):
        there + torch.ones(3)
    with pytest.raises((RuntimeError, TypeError, NotImplementedError)):
        there.numpy()


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
def test_training_elsewhere_is_training_here(far, optimiser: str) -> None:
    """The same weights to the bit, all of them on the device: nothing was left on the host, nothing mixed."""
    settings = {"steps": 8, "seed": 3, "batch_tokens": 128, "optimiser": optimiser, "half": False}
    here, told = causal_training.train_causal(ROWS, CONFIG, device="cpu", **settings)
    there, told_there = causal_training.train_causal(ROWS, CONFIG, device=far, **settings)
    assert {FAR.type} == {value.device.type for value in there.state_dict().values()}
    assert here.fingerprint() == there.fingerprint()
    assert (told.losses, told.validation) == (told_there.losses, told_there.validation)


def test_sampling_and_scoring_elsewhere_are_those_here(far, tmp_path) -> None:
    """Prompts of many lengths, rows that come and go, a nucleus, banned tokens; files for any device."""
    here = causal_training.train_causal(ROWS, CONFIG, steps=5, batch_tokens=128)[0]
    there = causal.load(causal.save(here, tmp_path / "a.pt")).to(FAR)
    assert FAR.type == there.device.type
    prompts = [[0, *([5] * (n % 7))] for n in range(40)]
    settings = {"stop_token": 1, "temperature": 0.9, "top_k": 9, "top_p": 0.95, "banned": (2, 3)}
    settings |= {"batch_size": 16, "seed": list(range(40))}
    answers = causal.sample(here, prompts, **settings)
    assert answers == causal.sample(there, prompts, **settings)
    assert len({len(answer.tokens) for answer in answers}) > 3
    rows = [[*prompt, *answer.tokens] for prompt, answer in zip(prompts, answers) if answer.tokens]
    assert causal.score(here, rows, batch_size=7) == causal.score(there, rows, batch_size=7)
    assert here.fingerprint() == causal.load(causal.save(there, tmp_path / "b.pt")).fingerprint()


def test_devices_have_names() -> None:
    """auto and cpu always work; others are told in one line."""
    assert "cpu" == devices.place("cpu").type
    assert devices.place("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for wrong in ("gpu", "cuda:x", "cpu:0", ""):
        with pytest.raises(BadSetting, match="choose auto, cpu, cuda or cuda:N"):
            devices.place(wrong)
    with pytest.raises(BadSetting, match="torch sees"):
        devices.place("cuda:99")


class Killed(Exception):
    """Stands for a kill."""


def killed_at(step: int):
    """A progress call that ends the run after so many steps."""

    def progress(what, done, total):
        if done == step:
            raise Killed

    return progress


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
def test_a_killed_run_goes_on_and_ends_the_same(tmp_path, optimiser: str) -> None:
    """With dropout, held-out rows, and kills before, between and after checks: the same to the bit."""
    settings = {"steps": 24, "seed": 5, "batch_tokens": 128, "optimiser": optimiser, "evaluations": 5}
    whole, told = causal_training.train_causal(ROWS, CONFIG, **settings)
    file = tmp_path / "deep" / "run.pt"
    settings |= {"checkpoint": file, "checkpoint_seconds": 0.0}
    for step in (1, 9, 17, 24):
        with pytest.raises(Killed):
            causal_training.train_causal(ROWS, CONFIG, progress=killed_at(step), **settings)
        assert file.exists()
    seen = []
    again, resumed = causal_training.train_causal(
        ROWS, CONFIG, progress=lambda *now: seen.append(now), **settings
    )
    assert [] == seen  # the end was written too
    assert whole.fingerprint() == again.fingerprint()
    for name in ("steps", "epochs", "tokens", "losses", "validation", "best_step", "best_loss"):
        assert getattr(told, name) == getattr(resumed, name)
    assert [] == list(file.parent.glob("*.part"))


def test_a_file_of_another_run_is_not_gone_on_from(tmp_path) -> None:
    """Other data, seed, settings or first weights begin anew; so does a file that is damaged."""
    file = tmp_path / "run.pt"
    settings = {"steps": 6, "batch_tokens": 128, "checkpoint": file, "checkpoint_seconds": 0.0}
    begun, _ = causal_training.train_causal(ROWS, CONFIG, seed=1, **settings)
    for rows, changed in (
        (ROWS, {"seed": 2}),
        (ROWS[:-1], {}),
        (ROWS, {"beta2": 0.9}),
        (ROWS, {"model": begun}),
    ):
        seen = []
        given = {"seed": 1, **settings, **changed, "progress": lambda *now, seen=seen: seen.append(now)}
        causal_training.train_causal(rows, CONFIG, **given)
        assert 6 == len(seen)
    file.write_bytes(file.read_bytes()[:2000])
    again, _ = causal_training.train_causal(ROWS, CONFIG, seed=1, **settings)
    assert begun.fingerprint() == again.fingerprint()


def test_a_short_run_writes_no_file(tmp_path) -> None:
    """Under a minute nothing is worth keeping."""
    file = tmp_path / "run.pt"
    causal_training.train_causal(ROWS, CONFIG, steps=3, batch_tokens=128, checkpoint=file)
    assert not file.exists()


def test_a_compiled_run_learns_what_the_plain_one_learns(monkeypatch) -> None:
    """The layers are traced whole; the tracer alone is run here, as its compiler takes a minute."""
    compile_ = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda work, dynamic: compile_(work, dynamic=dynamic, backend="eager")
    )
    plain, traced = (
        causal_training.train_causal(ROWS, CONFIG, steps=6, batch_tokens=128, half=False, compiled=on)[1]
        for on in (False, True)
    )
    assert plain.losses[-1][1] == pytest.approx(traced.losses[-1][1], rel=1e-4)
