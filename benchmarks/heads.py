"""The head cut: what one head of a model costs whose heads have deep branches of their own.

Asked for one head, Triceps runs a graph cut down to it.  That should cost what the head alone, as
a model of its own, costs; ONNX Runtime, asked for one output, computes the whole.

`python -m benchmarks.heads` prints it.
"""

from __future__ import annotations

import numpy as np

from benchmarks import models, report
from service.inference.model import Model

ROWS = (1, 16)
ROUNDS = 3


def main() -> None:
    """Measure each head three ways, by turns, and print the fastest run of each."""
    whole = Model.load(models.branches())
    table = []
    for head in models.HEADS:
        alone = Model.load(models.branches((head,)))
        for rows in ROWS:
            given = models.arrays(rows)
            same = np.array_equal(
                whole.predict(given, [head])[head], alone.predict(given, [head])[head]
            )
            # By turns, so that what else the machine does meets all three.
            turns = [
                (
                    models.cost(whole, rows),
                    models.cost(alone, rows, (head,)),
                    models.cost(whole, rows, (head,)),
                )
                for _ in range(ROUNDS)
            ]
            everything, single, cut = map(min, zip(*turns, strict=True))
            ratio = f"{cut / single:.2f}{'' if same else ', AND ANOTHER ANSWER'}"
            costs = [f"{milliseconds:.3f}" for milliseconds in (everything, single, cut)]
            table.append([head, str(rows), *costs, ratio])
    header = ("head", "rows", "whole graph", "head alone", "head of whole", "of alone")
    report.show(report.Table("Milliseconds a run", header, table), report.console())


if __name__ == "__main__":
    main()
