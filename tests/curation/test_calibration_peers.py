"""The rank correlation of an order beside scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from karat.curation.calibration import spearman


@pytest.mark.parametrize("slope", [0.0, 0.1, 0.5])
def test_rank_correlation_and_its_p_are_those_of_scipy(slope: float) -> None:
    """With ties in the truth, as labels have them."""
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 3, 80).astype(np.float64)
    scores = slope * truth + rng.normal(size=80)
    found, peer = spearman(scores, truth, trials=50), spearmanr(scores, truth)
    assert peer.statistic == pytest.approx(found.rho)
    assert peer.pvalue == pytest.approx(found.p, rel=1e-6)
    assert found.low < found.rho < found.high
