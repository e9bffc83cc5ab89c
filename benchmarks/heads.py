"""The cost of one head of a model whose heads have deep branches of their own.

For a request of one head, Triceps runs the sub-graph of that head.  It should cost as much as a
model that has only that head.  ONNX Runtime computes the whole graph even for one output.

`python -m benchmarks.heads` prints the times.
"""

from __future__ import annotations

import numpy as np

from benchmarks import models, report
from service.inference.model import Model

ROWS = (1, 16)
ROUNDS = 3


def main() -> None:
    """Measure each head in three ways, in turns, and print the fastest run of each."""
    whole = Model.load(models.branches())
    table = []
    for head in models.HEADS:
        alone = Model.load(models.branches((head,)))
        for rows in ROWS:
            given = models.arrays(rows)
            same = np.array_equal(
                whole.predict(given, [head])[head], alone.predict(given, [head])[head]
            )
            # In turns, so that other work on the machine affects all three.
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
