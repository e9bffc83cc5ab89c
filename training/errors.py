"""Everything that can go wrong in a training run, on one screen.

TricepsError
├── SpecError       the spec, or a word on the command line, is wrong; exit code 2
├── DataError       a CSV is not what the spec says; exit code 1
├── FitError        the fit gave no model worth keeping; exit code 1
└── ExportError     the file would not answer as Keras does, or cannot be made; exit code 1

All are raised before anything is published.
"""

from __future__ import annotations

from typing import ClassVar

from service.errors import MISUSED, TricepsError


class SpecError(TricepsError):
    """The spec is wrong; the message names the file, the key, what was expected and what came."""

    exit_code: ClassVar[int] = MISUSED


class DataError(TricepsError):
    """The data are wrong; the message names the file, and the column where it is one column's.

    What single rows have wrong names the first one's line and how many they are.
    """


class FitError(TricepsError):
    """The fit diverged; there is nothing to export."""


class ExportError(TricepsError):
    """The model cannot be exported, or its file does not answer as Keras does."""
