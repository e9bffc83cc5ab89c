"""A valid spec, and lines of it that tests replace by wrong ones."""

GOOD = """\
name = "small"

[inputs.a]
csv = "a.csv"

[inputs.b]
csv = "b.csv"
header = false
target = 0
image = [2, 2]

[layers.h]
after = ["a", "b"]
Dense = { units = 3 }

[heads.x]
after = "h"
kind = "binary"
target = "a"
labels = ["no", "yes"]

[heads.y]
after = "h"
kind = "regression"
target = "b"
"""

A_TABLE = 'csv = "a.csv"'
LAYER = "Dense = { units = 3 }"
X_KIND = 'kind = "binary"'
X_LABELS = 'labels = ["no", "yes"]'
Y_KIND = 'kind = "regression"'
NODE = "the name of an input, layer or head"


def edit(old, new, text=GOOD):
    """Return the text with the first `old` replaced by `new`."""
    assert old in text
    return text.replace(old, new, 1)
