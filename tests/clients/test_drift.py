"""The statistics of drift beside those of scipy, on the same cells."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr

from service.insight.drift import statistics
from service.insight.drift.counting import compared, counted
from service.insight.drift.record import numbers

RNG = np.random.default_rng(1)
COUNTS = [RNG.multinomial(rows, RNG.dirichlet(np.ones(12)), 2) for rows in (30, 300, 3000)]
COUNTS.append(np.array([[0, 5, 0, 95], [7, 0, 0, 93]]))


@pytest.mark.parametrize("counts", COUNTS)
def test_the_jensen_shannon_distance_is_scipys(counts):
    """By logarithms of base 2; cells without rows included."""
    before, after = counts

    ours = statistics.jensen_shannon(before, after)

    assert ours == pytest.approx(jensenshannon(before, after, base=2), abs=1e-6)


@pytest.mark.parametrize("counts", COUNTS)
def test_psi_is_the_sum_of_scipys_relative_entropies(counts):
    """PSI is the Kullback-Leibler divergence in both directions, with half a row in each cell."""
    p, q = ((side + 0.5) / (side + 0.5).sum() for side in counts)

    assert statistics.psi(*counts) == pytest.approx(
        float(rel_entr(p, q).sum() + rel_entr(q, p).sum()), abs=1e-6
    )


@pytest.mark.parametrize("risk", [0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6])
def test_bounds_are_scipys_quantiles(risk):
    """For any number of cells that a comparison can have."""
    for cells in range(2, 30):
        ours = statistics.bound(1000, 500, cells, risk)
        theirs = (1 / 1000 + 1 / 500) * stats.chi2.isf(risk, cells - 1)

        assert ours == pytest.approx(theirs, rel=1e-6)


def test_rows_needed_have_the_power_that_scipys_distribution_says():
    """A PSI of 0.25 exceeds its bound with a chance of 0.9 at least, by the noncentral one."""
    for cells in (2, 3, 5, 10):
        for rows in (500, 1000, 10_000):
            reference = np.full(cells, rows // cells)
            needed = statistics.rows_needed(reference, 0.001)
            size = 1 / reference.sum() + 1 / needed
            above = statistics.bound(int(reference.sum()), needed, cells, 0.001) / size

            power = stats.ncx2.sf(above, cells - 1, statistics.LARGE / size)

            assert power >= 0.9


def test_bins_have_the_counts_of_numpys_histogram():
    """Rows in the same bins: those of numpy, between the recorded edges."""
    before, after = RNG.normal(size=5000), RNG.normal(0.3, 1.2, 2000)
    one = numbers(before)

    reference, counts = compared(one, counted(one, after))

    inside = after[(after >= one.edges[0]) & (after <= one.edges[-1])]
    assert counts[2:-1].tolist() == np.histogram(inside, one.edges)[0].tolist()
    assert reference[2:-1].tolist() == np.histogram(before, one.edges)[0].tolist()
    assert counts[1] == (after < one.edges[0]).sum()
    assert counts[-1] == (after > one.edges[-1]).sum()
