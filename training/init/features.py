"""The use of each column as a feature, with its reason, or why it is left out.

A rule looks at one column and, for leaks, at the targets.  The first rule that applies decides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from training.cells import (
    EXACT,
    INSTEAD_OF_DATES,
    LARGEST,
    is_counted,
    is_date,
    is_number,
    show,
)
from training.features import FEW, NEARLY_ALL
from training.init.leaks import leak, sums
from training.init.profile import some
from training.table import NAMELESS
from training.targets import MANY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from training.init.profile import Profile

NUMBER, LOG, ONE_HOT, EMBEDDING, LEFT_OUT = "number", "log", "one-hot", "embedding", "left out"
# Up to so many categories, each has a column of its own; more of them share an embedding.
ONE_HOT_MOST = 32
SKEWED = 2.0
_DENSE = 2  # amounts in ascending order have larger gaps
# Between the smallest and the largest number.  The variance of more is beyond float32, and pieces
# of less divide by numbers that processors take for 0.
_LARGEST_RANGE, _SMALLEST_RANGE = 1e18, 1e-30

_IDENTIFIER = re.compile(r"(?i)(.*[ _.-])?(id|uuid|guid|index|idx|row|rownames?|key|nr|no|number)")
# The end of a camel-case name, as in customerId.
_CAMEL = re.compile(r".*[a-z](Id|ID|Key|Index)")
# A number with what people write around it: a currency, a unit, a separator.
_DRESSED = re.compile(r"[^\w.,+-]{0,3}[+-]?\d[\d.,' ]*\s?(%|[A-Za-z€$£]{1,3})?")


@dataclass(frozen=True)
class Choice:
    """The use of one column: one of the five above.

    `values` counts the different values.  With `named`, the spec has to name the column as a
    category, since it looks like something else.
    """

    column: str
    use: str
    reason: str
    values: int = 0
    named: bool = False


def choose(column: Profile, targets: Sequence[Profile]) -> Choice:
    """Return the use of a column that is no target."""
    reason = _useless(column) or leak(column, targets)
    if reason:
        return Choice(column.name.removesuffix(NAMELESS), LEFT_OUT, reason)
    choice = _choose(column)
    if choice.use == LEFT_OUT or not column.missing:
        return choice
    return replace(choice, reason=f"{choice.reason}; {column.missing:,} cells are empty")


def in_spite_of_leaks(column: Profile, targets: Sequence[Profile]) -> Choice:
    """Return the use of a column by its cells alone, and in its reason that it says a target."""
    choice = choose(column, ())
    reason = leak(column, targets) if choice.use != LEFT_OUT else ""
    return replace(choice, reason=f"{choice.reason}; {reason}") if reason else choice


def without_sums(
    choices: Sequence[Choice], columns: Mapping[str, Profile], targets: Sequence[Profile]
) -> list[Choice]:
    """Return the choices with the numbers left out that together say a target.

    If no other feature is left, they stay, with that in the reason.
    """
    numbers = [columns[choice.column] for choice in choices if choice.use in (NUMBER, LOG)]
    found = sums(numbers, targets)
    used = [choice for choice in choices if choice.use != LEFT_OUT]
    all_of_them = all(choice.column in found for choice in used)

    def changed(choice: Choice) -> Choice:
        if choice.column not in found or choice.use == LEFT_OUT:
            return choice
        reason = found[choice.column]
        if all_of_them:
            return replace(choice, reason=f"{choice.reason}; {reason}")
        return replace(choice, use=LEFT_OUT, reason=reason)

    return list(map(changed, choices))


def _choose(column: Profile) -> Choice:
    if column.is_numeric:
        return _number(column)
    if column.count(is_date) >= NEARLY_ALL * column.cells:
        reason = f"dates ({some(column)}), which are no amounts: {INSTEAD_OF_DATES}"
        return Choice(column.name, LEFT_OUT, reason)
    return _text(column)


def _useless(column: Profile) -> str:
    if column.name.endswith(NAMELESS):
        return "name it in line 1, if it is more than the row numbers that other programs write"
    if not column.texts:
        return f"all {column.rows} cells are empty"
    if len(column.texts) == 1:
        return f"{show(column.texts[0])} in every row"
    return ""


def _number(column: Profile) -> Choice:
    if reason := _out_of_range(column):
        return Choice(column.name, LEFT_OUT, reason)
    if _are_codes(column):
        return _category(column, "numbers with leading zeros are codes, not amounts")
    if reason := _identifies(column):
        return Choice(column.name, LEFT_OUT, reason)
    values = column.distinct
    text = f"number, {_plain(values[0])} to {_plain(values[-1])}"
    if len(values) == 2:  # noqa: PLR2004  (yes and no)
        text = f"number, {_plain(values[0])} or {_plain(values[1])}"
    elif column.is_whole and len(values) <= MANY:
        text += f", {len(values)} different"
    if _is_skewed(column):
        return Choice(column.name, LOG, f"{text}, heavily skewed: on a log scale", len(values))
    return Choice(column.name, NUMBER, text, len(values))


def _out_of_range(column: Profile) -> str:
    """Return why float32 cannot hold the numbers or their variance, or an empty text if it can."""
    if (np.abs(column.values) > LARGEST).any():
        return "numbers too large for a float32"
    values = column.distinct
    if values[-1] - values[0] > _LARGEST_RANGE:
        return f"numbers from {values[0]:.3g} to {values[-1]:.3g}: give them in a larger unit"
    if 0 < values[-1] - values[0] < _SMALLEST_RANGE:
        return "numbers so close together that float32 cannot scale them: give them in another unit"
    return ""


def _are_codes(column: Profile) -> bool:
    """Return whether the numbers are written with leading zeros, as postcodes are."""
    return column.every(is_counted) and any(
        len(text) > 1 and text.startswith("0") and text.isdecimal() for text in column.texts
    )


def _identifies(column: Profile) -> str:
    """Return why whole numbers are an identifier, or an empty text if they are amounts."""
    if not column.is_whole or column.cells < FEW or column.different < column.cells:
        return ""
    values = column.distinct
    if values[-1] - values[0] == column.cells - 1:
        return f"row numbers: each from {_plain(values[0])} to {_plain(values[-1])} once"
    in_order = column.values[column.codes[column.codes >= 0]]
    if (np.diff(in_order) > 0).all() and values[-1] - values[0] < _DENSE * len(values):
        ends = f"{_plain(values[0])} to {_plain(values[-1])}"
        return f"row numbers of a larger table: from {ends}, larger in each row"
    if _IDENTIFIER.fullmatch(column.name) or _CAMEL.fullmatch(column.name):
        return "an identifier by its name, with another number in every row"
    if np.abs(values).max() > EXACT:
        return f"an identifier: other whole numbers in every row, and some over {EXACT:,}"
    return ""


def _is_skewed(column: Profile) -> bool:
    """Return whether numbers are heavily skewed, not negative, and less skewed as logarithms."""
    values = column.cell_values()
    if len(column.distinct) <= MANY or values.min() < 0:
        return False
    unit = np.quantile(values[values > 0], 0.05)
    before, after = _skewness(values), _skewness(np.log1p(values / unit))
    return before > SKEWED and abs(after) < before / 2


def _skewness(values: np.ndarray) -> float:
    centred = values - values.mean()
    spread = np.sqrt(np.mean(centred**2))
    return float(np.mean((centred / spread) ** 3)) if spread > 0 else 0.0


def _text(column: Profile) -> Choice:
    numbers = column.numbers
    distinct = len(column.texts)
    if 2 * numbers >= column.cells and distinct > MANY:
        other = next(text for text in column.texts if not is_number(text))
        count = column.cells - numbers
        cells = "1 cell is not" if count == 1 else f"{count} cells are not"
        reason = f"numbers, but {cells}, first {show(other)}: empty or correct them"
        return Choice(column.name, LEFT_OUT, reason)
    nearly_all = column.cells >= FEW and distinct >= NEARLY_ALL * column.cells
    if nearly_all or (distinct > MANY and 2 * distinct > column.cells):
        reason = f"text with {distinct} different values in {column.cells} rows ({some(column)})"
        if column.count(lambda text: bool(_DRESSED.fullmatch(text))) >= NEARLY_ALL * column.cells:
            reason += ": if they are numbers, write them plainly, as 1234.5"
        return Choice(column.name, LEFT_OUT, reason)
    return _category(column, "", named=numbers > 0)


def _category(column: Profile, why: str, *, named: bool = True) -> Choice:
    count = len(column.texts)
    use = ONE_HOT if count <= ONE_HOT_MOST else EMBEDDING
    if count > MANY and 2 * count > column.cells:
        reason = f"{why or 'text'}; {count} different in {column.cells} rows are no categories"
        return Choice(column.name, LEFT_OUT, reason)
    reason = f"category, {count} values" + (f": {why}" if why else "")
    return Choice(column.name, use, reason, count, named)


def _plain(value: float) -> str:
    """Return a number in a few digits, without an exponent where that is short."""
    if value == int(value) and abs(value) < 10 * EXACT:
        return str(int(value))
    return f"{value:.6g}"
