"""How models, versions' aliases and tokens may be called."""

from __future__ import annotations

import re

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
# The same in words, for messages.
NAMES = "letters, digits, '_', '.' and '-'"
