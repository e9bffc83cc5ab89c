"""The rule for the names of models, views, aliases and tokens."""

from __future__ import annotations

import re

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
# The same rule as text, for messages.
NAMES = "at most 128 letters, digits, '_', '.' and '-', the first none of the last two"
