"""The gate: a model whose scores are too low is not published, and `--no-publish` never is."""

from types import SimpleNamespace

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the train extra")

from service.errors import TricepsError  # noqa: E402  (after the check above)
from tests.harness import tiny  # noqa: E402  (after the check above)
from tests.training.runs import SMALL, run  # noqa: E402  (after the check above)
from training import gate  # noqa: E402  (after the check above)
from training.errors import RejectedError, SpecError  # noqa: E402  (after the check above)
from training.scores import Score  # noqa: E402  (after the check above)

pytestmark = pytest.mark.keras


def _score(metric="accuracy", train=0.5, held_out=None):
    return Score(metric, 24, 0, float(np.float32(train)), held_out, 0.5)


def _unmet(score, demand):
    spec = SimpleNamespace(path="a.toml", heads={"o": None})
    return gate.unmet(gate.demands([demand], spec), {"o": score})


@pytest.mark.parametrize(
    ("score", "demand", "expected"),
    [
        pytest.param(_score(train=0.7), "o=0.7", [], id="equal, though float32's 0.7 is less"),
        pytest.param(_score(train=0.9, held_out=0.8), "o=0.75", [], id="over it"),
        pytest.param(
            _score(train=0.9, held_out=0.7),
            "o=0.75",
            [
                (
                    "head 'o': the accuracy on held-out rows is 0.7, which is 0.05 too low:"
                    " --min-score o=0.75 demands at least 0.75"
                )
            ],
            id="held-out rows decide",
        ),
        pytest.param(
            _score(train=0.25),
            "o=1",
            [
                (
                    "head 'o': the accuracy on training rows is 0.25, which is 0.75 too low:"
                    " --min-score o=1 demands at least 1"
                )
            ],
            id="training rows where none are held out",
        ),
        pytest.param(_score("mae", train=1500.0), "o=2e3", [], id="error under it"),
        pytest.param(
            _score("mean_squared_error", train=2500.0),
            "o=2e3",
            [
                (
                    "head 'o': the mean_squared_error on training rows is 2500, which is 500 too"
                    " high: --min-score o=2e3 demands at most 2000"
                )
            ],
            id="error over it",
        ),
        pytest.param(
            _score("mae", held_out=2.2e6),
            "o=1.5e6",
            [
                (
                    "head 'o': the mae on held-out rows is 2200000, which is 700000 too high:"
                    " --min-score o=1.5e6 demands at most 1500000"
                )
            ],
            id="large numbers in full",
        ),
        pytest.param(
            _score(train=np.nan),
            "o=-5",
            [
                (
                    "head 'o': the accuracy on training rows is nan, which is nan too low:"
                    " --min-score o=-5 demands at least -5"
                )
            ],
            id="no number",
        ),
    ],
)
def test_a_score_that_is_not_good_enough_is_named(score, demand, expected):
    """A message says which head, on which rows, by how much, and what was demanded."""
    assert _unmet(score, demand) == expected


@pytest.mark.parametrize(
    ("metric", "error"),
    [
        *((name, False) for name in ("accuracy", "auc", "AUC", "f1_score", "R2Score", "recall")),
        *((name, False) for name in ("cosine_similarity", "TruePositives", "binary_io_u")),
        *((name, True) for name in ("mae", "MSE", "mean_squared_error", "RootMeanSquaredError")),
        *((name, True) for name in ("binary_crossentropy", "hinge", "LogCoshError", "poisson")),
        *((name, True) for name in ("KLDivergence", "false_positives", "huber")),
    ],
)
def test_metrics_of_which_less_is_better_are_known(metric, error):
    """Errors and losses are those of Keras, by any of its spellings."""
    assert gate.is_error(metric) == error


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param(["bougt=0.5"], "no head 'bougt' (did you mean 'bought'?)", id="other head"),
        pytest.param(["zzz=0.5"], "no head 'zzz'; heads: bought", id="unlike any head"),
        pytest.param(["bought"], "expected HEAD=SCORE with a number, as bought=0.8", id="no score"),
        pytest.param(["=0.8"], "expected HEAD=SCORE with a number", id="no name"),
        pytest.param(["bought=nan"], "expected HEAD=SCORE with a number", id="not-a-number"),
        pytest.param(["bought=80%"], "expected HEAD=SCORE with a number", id="per cent"),
        pytest.param(
            ["bought=1", "bought=0"],
            "--min-score bought=0: head 'bought' has bought=1 already; remove one",
            id="twice",
        ),
    ],
)
def test_a_wrong_demand_is_refused_before_the_fit(tmp_path, options, expected):
    """The message begins with the option as it was written."""
    path = tiny.write(tmp_path, SMALL, people=tiny.people())
    arguments = [part for option in options for part in ("--min-score", option)]

    done = run("train", path, "--models", tmp_path / "models", *arguments)

    assert isinstance(done.exception, SpecError)
    assert str(done.exception).startswith(f"--min-score {options[-1]}: ")
    assert expected in str(done.exception)
    assert "epoch" not in done.stderr


def test_a_model_that_is_not_good_enough_is_not_published(tmp_path):
    """The table is printed all the same, and the exit code is 1."""
    path = tiny.write(tmp_path, SMALL, people=tiny.people())

    done = run("train", path, "--models", tmp_path / "models", "--min-score", "bought=1.01")

    assert isinstance(done.exception, RejectedError)
    assert TricepsError.exit_code == done.exception.exit_code == 1
    assert "--min-score bought=1.01 demands at least 1.01; nothing was published" in str(
        done.exception
    )
    assert "Keras ↔ ONNX" in done.stdout
    assert not (tmp_path / "models").exists()


def test_a_model_that_is_good_enough_is_published(tmp_path):
    """A demand that is met changes nothing."""
    path = tiny.write(tmp_path, SMALL, people=tiny.people())

    done = run("train", path, "--models", tmp_path / "models", "--min-score", "bought=0")

    assert done.exit_code == 0, (done.output, done.exception)
    assert "published small, version 1: " in done.stdout


def test_a_trial_run_prints_the_table_and_publishes_nothing(tmp_path):
    """`--no-publish` needs no repository, and a demand is checked all the same."""
    path = tiny.write(tmp_path, SMALL, people=tiny.people())
    arguments = ["train", path, "--models", tmp_path / "models", "--no-publish"]

    done = run(*arguments)
    low = run(*arguments, "--min-score", "bought=2")

    assert done.exit_code == 0, (done.output, done.exception)
    assert "Keras ↔ ONNX" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last == "trained small; nothing was published (--no-publish)"
    assert isinstance(low.exception, RejectedError)
    assert not (tmp_path / "models").exists()
