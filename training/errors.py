"""The errors of a training run, on one screen.

TricepsError
├── SpecError       the spec or the command line is wrong; exit code 2
├── DataError       a CSV is not what the spec says; exit code 1
├── FitError        the fit gave no usable model; exit code 1
├── ExportError     the model cannot be converted, or its file differs from Keras; exit code 1
└── RejectedError   the model is not good enough for what the command demands; exit code 1

All are raised before anything is published.
"""

from __future__ import annotations

from typing import ClassVar

from service.errors import MISUSED, TricepsError


class SpecError(TricepsError):
    """An error in a spec: the message names file, key, what was expected and what was received."""

    exit_code: ClassVar[int] = MISUSED


class DataError(TricepsError):
    """An error in the data: the message names the file and, if there is only one, the column.

    If single rows are wrong, it names the line of the first and how many there are.
    """


class FitError(TricepsError):
    """A fit that diverged or failed, so that there is nothing to export."""


class ExportError(TricepsError):
    """A model that cannot be exported, or a file that does not answer as Keras does."""


class RejectedError(TricepsError):
    """A model that the options of the command do not let be published."""
