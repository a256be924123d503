"""The small transformer: cached sampling equals plain forward passes, and training is exact by seed."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs karat[torch]")

from karat import errors  # noqa: E402
from karat.generation import causal, causal_kernels, causal_training  # noqa: E402

CONFIG = causal.CausalConfig(vocab_size=17, layers=2, heads=2, width=16, context=24)


def awake(seed: int = 0) -> causal.Causal:
    """A model whose every weight matters (fresh ones have zero output matrices)."""
    model = causal.Causal(CONFIG, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.eval()


def greedy(model: causal.Causal, prompt: list[int], count: int, stop: int) -> tuple[list[int], float]:
    """Greedy answer by whole forward passes, without any cache."""
    tokens, total, made = list(prompt), 0.0, 0
    for _ in range(min(count, CONFIG.context - len(prompt))):
        with torch.inference_mode():
            chances = torch.log_softmax(model(torch.tensor([tokens]))[0, -1], -1)
        best = int(chances.argmax())
        total, made = total + float(chances[best]), made + 1
        if best == stop:
            break
        tokens.append(best)
    return tokens[len(prompt) :], total / made


def prompts_of_many_lengths() -> list[list[int]]:
    generator = np.random.default_rng(3)
    return [generator.integers(0, 17, size=n).tolist() for n in (1, 5, 2, 9, 1, 20, 3, 7, 5, 23)]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_cached_sampling_equals_whole_forward_passes(batch_size: int) -> None:
    """Tokens are the same, log-probabilities within rounding, whatever the batch and prompt lengths."""
    model, prompts = awake(), prompts_of_many_lengths()
    answers = causal.sample(
        model, prompts, temperature=0, max_new_tokens=14, stop_token=4, batch_size=batch_size
    )
    for prompt, answer in zip(prompts, answers, strict=True):
        tokens, logprob = greedy(model, prompt, 14, 4)
        assert tokens == list(answer.tokens)
        assert logprob == pytest.approx(answer.logprob, abs=1e-4)


def test_logprob_of_a_sample_is_the_score_of_its_tokens() -> None:
    """What sampling reports is what `score` finds for the same tokens, at any temperature."""
    model, prompts = awake(), prompts_of_many_lengths()
    answers = causal.sample(model, prompts, temperature=1.7, top_k=9, max_new_tokens=6, stop_token=4, seed=5)
    whole = [p + list(a.tokens) + ([4] if a.finished else []) for p, a in zip(prompts, answers, strict=True)]
    scored = causal.score(model, whole, prefix=[len(p) for p in prompts])
    assert scored == pytest.approx([a.logprob for a in answers], abs=1e-4)


def test_a_row_with_its_own_seed_does_not_depend_on_its_neighbours() -> None:
    """Row seeds make an answer independent of batch size and order: what a resumed run needs."""
    model, prompts = awake(), prompts_of_many_lengths()
    seeds = list(range(len(prompts)))
    together = causal.sample(model, prompts, seed=seeds, max_new_tokens=8, stop_token=4)
    alone = [
        causal.sample(model, [p], seed=[s], max_new_tokens=8, stop_token=4)[0] for p, s in zip(prompts, seeds)
    ]
    assert [a.tokens for a in alone] == [t.tokens for t in together]


def test_top_p_top_k_and_banned_tokens_hold() -> None:
    """No token outside the nucleus, the k best, or among the banned is ever drawn."""
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    assert causal.sharpen(logits, 1.0, 0, 0.6)[0].gt(0).tolist() == [True, True, False, False]
    assert causal.sharpen(logits, 1.0, 3, 1.0)[0].gt(0).tolist() == [True, True, True, False]
    assert causal.sharpen(logits, 0, 0, 1.0)[0].tolist() == [1.0, 0.0, 0.0, 0.0]
    answers = causal.sample(awake(), [[1]] * 50, banned=(2, 3), max_new_tokens=20, temperature=2.0)
    drawn = {t for a in answers for t in a.tokens}
    assert drawn and not drawn & {2, 3}


def test_sampled_frequencies_follow_the_model() -> None:
    """First tokens of 4,000 answers are distributed as the softmax says."""
    model = awake()
    answers = causal.sample(model, [[1]] * 4000, max_new_tokens=1, seed=1)
    counts = np.bincount([a.tokens[0] for a in answers], minlength=17) / 4000
    with torch.inference_mode():
        chances = torch.softmax(model(torch.tensor([[1]]))[0, -1], -1).numpy()
    assert np.abs(counts - chances).max() < 3.5 * np.sqrt(0.25 / 4000)


ROWS = [[0, *([a] * n), 1] for a in (5, 6, 7) for n in range(2, 12)] * 6


def test_training_is_exact_by_seed_and_learns() -> None:
    """One seed gives one model to the bit, another seed another; the loss falls far below chance."""
    first, history = causal_training.train_causal(ROWS, CONFIG, steps=40, seed=3, batch_tokens=256)
    again, _ = causal_training.train_causal(ROWS, CONFIG, steps=40, seed=3, batch_tokens=256)
    other, _ = causal_training.train_causal(ROWS, CONFIG, steps=40, seed=4, batch_tokens=256)
    assert first.fingerprint() == again.fingerprint()
    assert first.fingerprint() != other.fingerprint()
    assert history.validated and history.best_loss < 0.6 * np.log(17)


def test_the_best_held_out_weights_are_returned() -> None:
    """The returned model has the best held-out loss in the history, not the last."""
    held = ROWS[::7]
    model, history = causal_training.train_causal(ROWS, CONFIG, steps=30, validation=held, batch_tokens=256)
    rows = causal_training.rows_of(held, CONFIG.context)
    found = causal_training.loss_over(model, rows, np.arange(len(held)))
    assert min(v for _, v in history.validation) == history.best_loss
    assert history.best_loss == pytest.approx(found, abs=1e-4)


def test_given_tokens_are_not_learned() -> None:
    """With a prefix of three, the first two targets of each row do not count."""
    rows = causal_training.rows_of([[0, 5, 6, 7, 1]], 24, 3)
    _, targets = rows.batch(np.array([0]))
    assert targets.tolist() == [[-100, -100, 7, 1]]


def test_batches_hold_every_row_once_and_little_padding() -> None:
    """An epoch visits each row exactly once; bucketing keeps padding under a fifth."""
    rows = causal_training.rows_of(ROWS, 24)
    epoch = causal_training.batches(rows, np.arange(len(ROWS)), 128, np.random.default_rng(0))
    assert sorted(np.concatenate(epoch).tolist()) == list(range(len(ROWS)))
    cells = sum(len(b) * rows.lengths[b].max() for b in epoch)
    assert rows.lengths.sum() / cells > 0.8


def test_a_time_ceiling_shortens_the_run_and_says_so() -> None:
    """`max_seconds` ends a long plan early, with the history marked as shortened."""
    _, history = causal_training.train_causal(ROWS, CONFIG, steps=100_000, max_seconds=0.5, batch_tokens=256)
    assert history.shortened and history.seconds < 5


def test_saved_weights_come_back_the_same(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """A model read back has the fingerprint it was saved with."""
    model = awake()
    path = causal.save(model, tmp_path / "deep" / "model.pt")
    assert model.fingerprint() == causal.load(path).fingerprint()


def test_errors_name_the_cure() -> None:
    """A prompt that fills the context, and a width that heads do not divide, are the user's to mend."""
    with pytest.raises(errors.InputError, match="prompt 0 has 24 tokens"):
        causal.sample(awake(), [[1] * 24])
    with pytest.raises(errors.BadSetting, match="try width=8"):
        causal.CausalConfig(vocab_size=4, heads=4, width=10)


def test_derivatives_by_hand_are_the_numerical_ones() -> None:
    """Each piece against differences of its values (torch.autograd.gradcheck, in double precision)."""
    made = torch.Generator().manual_seed(0)

    def numbers(*shape: int):  # type: ignore[no-untyped-def]
        return torch.randn(*shape, generator=made, dtype=torch.float64, requires_grad=True)

    angle = torch.rand(5, 1, 1, 2, generator=made, dtype=torch.float64)
    cos, sin = torch.cat((angle.cos(), angle.cos()), -1), torch.cat((-angle.sin(), angle.sin()), -1)
    check = torch.autograd.gradcheck
    assert check(causal_kernels.norm, (numbers(3, 6),))
    assert check(causal_kernels.SquaredRelu.apply, (numbers(3, 6),))
    assert check(causal_kernels.Mixed.apply, (numbers(2, 5, 4), numbers(4)))
    assert check(
        lambda x, gain: causal_kernels.Turned.apply(x, cos, sin, gain), (numbers(2, 5, 2, 3, 4), numbers(3))
    )


def test_attention_of_whole_rows_is_softmax_of_scores_below_the_diagonal() -> None:
    """The fused kernel against the formula, for a short and a long row."""
    made = torch.Generator().manual_seed(0)
    for time in (5, 130):
        q, k, v = (torch.randn(2, 3, time, 8, generator=made) for _ in range(3))
        scores = (q @ k.transpose(-1, -2)).masked_fill(torch.ones(time, time).triu(1).bool(), -torch.inf)
        torch.testing.assert_close(torch.softmax(scores, -1) @ v, causal.attend_rows(q, k, v))


def test_newton_schulz_on_squares_is_newton_schulz_on_matrices() -> None:
    """The rounds of Jordan et al. 2024 on the matrices themselves, in double precision."""
    made = torch.Generator().manual_seed(0)
    stacks = [
        torch.randn(n, rows, columns, generator=made)
        for n, rows, columns in ((2, 9, 4), (3, 4, 4), (1, 4, 7))
    ]
    for given, found in zip(stacks, causal_training.orthogonal(stacks), strict=True):
        for one, ours in zip(given, found, strict=True):
            y = one.double() / one.double().norm()
            for _ in range(5):
                square = y @ y.T
                y = 3.4445 * y + (-4.7750 * square + 2.0315 * square @ square) @ y
            torch.testing.assert_close(y.float(), ours, rtol=1e-3, atol=1e-4)
