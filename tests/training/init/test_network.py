"""The sizes of a network and the settings of its fit, by rows and features."""

from training.init import network
from training.init.features import NUMBER, ONE_HOT, Choice

NUMBERS = [Choice(f"n{n}", NUMBER, "", 50) for n in range(10)]


def test_more_rows_bear_a_larger_trunk_and_less_dropout():
    """A small table would be learnt by heart."""
    sizes = [network.trunk(rows, NUMBERS) for rows in (100, 1000, 10_000)]

    assert [size.units for size in sizes] == [32, 64, 128]
    assert [size.pieces for size in sizes] == [4, 25, 32]
    assert [size.dropout for size in sizes] == [0.2, 0.2, 0.1]


def test_more_features_have_fewer_pieces_each():
    """All pieces together are bounded, and what is no number has none."""
    many = [Choice(f"n{n}", NUMBER, "", 50) for n in range(500)]

    assert network.trunk(10_000, many).pieces == 4
    assert network.trunk(10_000, [Choice("c", ONE_HOT, "", 3)]).pieces == 0


def test_the_steps_become_smaller_until_the_last_epoch():
    """The decay is as long as all epochs over the rows that are learnt from."""
    for rows in (10, 100, 1000, 100_000):
        fit = network.fit(rows)
        learned = round(rows * (1 - fit.validation - fit.test))
        assert fit.decay_steps == fit.epochs * -(-learned // fit.batch_size)
    assert network.fit(100).epochs == 60
    assert 40 <= network.fit(100_000).epochs <= network.fit(1000).epochs <= 100
