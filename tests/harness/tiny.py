"""Small CSV files and specs for training, in a folder of the test."""

import math

from training import build, data, fit
from training import spec as specs


def write(folder, spec, **tables):
    """Write a spec and its tables (name=text) into a folder, and return the path of the spec."""
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text(text)
    path = folder / "tiny.toml"
    path.write_text(spec)
    return path


def load(folder, spec, **tables):
    """Write a spec and its tables, and load them."""
    loaded = specs.load(write(folder, spec, **tables))
    return loaded, data.load(loaded, None)


def built(folder, spec, **tables):
    """Write a spec and its tables, and return the model built from them, before the fit."""
    loaded, rows = load(folder, spec, **tables)
    fit.seed(loaded.fit.seed)
    return build.build(loaded, rows)


def people(rows=24):
    """Return a table with ages, a text column of two values, and purchases by people over 40."""
    lines = ["age,smoker,bought"]
    for row in range(rows):
        age = 20 + row * 40 // rows
        lines.append(f"{age},{'yes' if row % 3 else 'no'},{int(age > 40)}")
    return "\n".join(lines) + "\n"


def fruits(rows=18):
    """Return a table with two numbers and one of three fruits, which the first number decides."""
    names = ("apple", "banana", "cherry")
    lines = [f"{row % 3 + row / 100},{row / 10},{names[row % 3]}" for row in range(rows)]
    return "\n".join(["weight,length,fruit", *lines]) + "\n"


def pictures(rows=20, size=(4, 4)):
    """Return pictures without a header, label first: bright on the left (0) or right (1)."""
    height, width = size
    lines = []
    for row in range(rows):
        pixels = [
            int(200 * abs(math.sin(row + x + y))) if (x < width / 2) == (row % 2 == 0) else 5
            for y in range(height)
            for x in range(width)
        ]
        lines.append(",".join(map(str, [row % 2, *pixels])))
    return "\n".join(lines) + "\n"
