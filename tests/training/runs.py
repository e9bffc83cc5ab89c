"""Runs of the commands and of fits, on the specs of several tests."""

import pytest
from click.testing import CliRunner

keras = pytest.importorskip("keras", reason="needs the train extra")

from tests.harness import tiny  # noqa: E402  (after the check above)
from training import build, cli, fit  # noqa: E402  (after the check above)
from training.rows import split  # noqa: E402  (after the check above)

# One model with every kind of head and input, and align = "sample": text columns in the block and
# by name, an embedding, a convolution, a shared layer, class weights, another metric, a view.
EVERYTHING = """
name = "everything"
align = "sample"

[inputs.people]
csv = "people.csv"
[inputs.fruit]
csv = "fruits.csv"
columns = ["weight", "length"]
[inputs.picture]
csv = "pictures.csv"
header = false
target = 0
image = [4, 4]

[layers.habit]
after = "people.smoker"
StringLookup = {}
[layers.habit_vector]
after = "habit"
Embedding = { input_dim = 4, output_dim = 2 }
[layers.habit_flat]
after = "habit_vector"
Flatten = {}
[layers.scaled]
after = "people"
Normalization = {}
[layers.pixels]
after = "picture"
Rescaling = { scale = 0.00392156862745098 }
[layers.grid]
after = "pixels"
Reshape = { target_shape = [4, 4, 1] }
[layers.conv]
after = "grid"
Conv2D = { filters = 2, kernel_size = 3 }
[layers.norm]
after = "conv"
BatchNormalization = {}
[layers.flat]
after = "norm"
Flatten = {}
[layers.trunk]
after = ["scaled", "habit_flat", "fruit", "flat"]
Dense = { units = 8, activation = "relu" }
[layers.drop]
after = "trunk"
Dropout = { rate = 0.2 }
[layers.deep]
after = "drop"
Dense = { units = 8, activation = "relu" }
[layers.deeper]
after = "deep"
share = "deep"

[heads.bought]
after = "deeper"
kind = "binary"
target = "people"
labels = ["no", "yes"]
threshold = 0.4
class_weights = "balanced"
[heads.which]
after = "deeper"
kind = "multiclass"
target = "fruit"
class_weights = { apple = 2, cherry = 0.5 }
[heads.side]
after = "trunk"
kind = "multiclass"
target = "picture"
loss = "categorical_crossentropy"
[heads.size]
after = "deep"
kind = "regression"
target = ["fruit.weight2", "fruit.length2"]
loss_weight = 0.1
[heads.marks]
after = "deep"
kind = "multilabel"
target = ["fruit.ripe", "fruit.big"]
metric = "auc"

[models.tables]
heads = ["bought", "which"]

[fit]
optimizer = { Adam = { learning_rate = 0.01 } }
epochs = 2
batch_size = 8
validation_split = 0.25
patience = 5
seed = 3
"""


def fruits():
    """Return the text of a CSV file with features and targets of every kind of head."""
    lines = tiny.fruits().splitlines()
    rows = [f"weight2,length2,ripe,big,{lines[0]}"]
    rows += [f"{n / 7},{n % 5},{n % 2},{int(n > 8)},{line}" for n, line in enumerate(lines[1:])]
    return "\n".join(rows) + "\n"


SMALL = """
name = "small"
[inputs.people]
csv = "people.csv"
[layers.n]
after = "people"
Normalization = {}
[layers.h]
after = "n"
Dense = { units = 4, activation = "relu" }
[heads.bought]
after = "h"
kind = "binary"
target = "people"
[fit]
epochs = 2
"""


def run(*arguments):
    """Run a command as the program does; return its exit code and output."""
    command = {"train": cli.train, "export": cli.export}[arguments[0]]
    arguments = [str(argument) for argument in arguments[1:]]
    return CliRunner().invoke(command, arguments, catch_exceptions=True)


def fit_spec(folder, text=SMALL, **tables):
    """Load, build and fit a spec; return it, its training rows and the fitted model."""
    loaded, rows = tiny.load(folder, text, **(tables or {"people": tiny.people()}))
    fit.seed(loaded.fit.seed)
    seen, held_out = split(rows, loaded.fit.validation_split, loaded.fit.seed)
    built = build.build(loaded, seen)
    return loaded, seen, fit.fit(loaded, built, seen, held_out)
