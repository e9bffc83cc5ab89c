"""What this project stands on: under which licences, and with which checks on our own code.

`python tests/project/test_supply_chain.py > THIRD_PARTY.md` writes the list anew.
"""

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What may be used and shipped unchanged by whoever uses and ships Triceps, whatever theirs is.
ALLOWED = {
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-0"),
    *("PSF-2.0", "Python-2.0", "Unicode-3.0", "Unlicense", "Zlib"),
    # Of its own files alone, which are not changed here.
    "MPL-2.0",
}
# Of what says so in words and not by an SPDX expression.
WORDS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "BSD": "BSD-3-Clause",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "ISC License (ISCL)": "ISC",
}
# How the text of a licence is told, where that is all a package has.
TEXTS = {
    "MIT": "Permission is hereby granted, free of charge, to any person obtaining a copy",
    "Apache-2.0": "Licensed under the Apache License, Version 2.0",
}

HEAD = """\
# Third-party packages

What an install of Triceps brings along, with the licence that each package states.
Code that a wheel has inside in turn (BLAS in numpy, what ONNX Runtime lists in its \
`ThirdPartyNotices.txt`) is named in the licence files that the wheel installs.
Written by `python tests/project/test_supply_chain.py > THIRD_PARTY.md`; a test holds it \
against `requirements/` and against what is installed.
"""


def locked(name):
    """The packages of a lock, by name."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return sorted(re.findall(r"^([a-z0-9][a-z0-9._-]*)==", text, re.MULTILINE))


def licence(name):
    """The licence of an installed package as an SPDX expression, or the words it has for it."""
    found = metadata.distribution(name)
    if (expression := found.metadata.get("License-Expression")) is not None:
        return expression
    stated = [
        line.rpartition(" :: ")[2]
        for line in found.metadata.get_all("Classifier") or []
        if line.startswith("License :: ") and not line.endswith("OSI Approved")
    ]
    words = stated or [(found.metadata.get("License") or "").strip().partition("\n")[0]]
    if words == [""]:
        texts = [file.read_text() for file in found.files or [] if "LICENSE" in file.name.upper()]
        words = [name for name, said in TEXTS.items() if any(said in text for text in texts)]
    return " OR ".join(sorted({WORDS.get(word, word) for word in words}))


def listed():
    """What THIRD_PARTY.md should say."""
    serve, train = locked("serve"), locked("train")
    parts = [HEAD]
    for title, names in (
        ("To serve", serve),
        ("To train, besides", [name for name in train if name not in serve]),
    ):
        rows = "".join(f"| {name} | {licence(name)} |\n" for name in names)
        parts.append(f"## {title}\n\n| Package | Licence |\n|---|---|\n{rows}")
    return "\n".join(parts)


@pytest.mark.parametrize("lock", ["serve", "train"])
def test_every_package_that_is_brought_has_a_licence_that_may_be(lock):
    """Each part of it: an expression joins several."""
    wrong = {
        name: said
        for name in locked(lock)
        if not (said := licence(name))
        or set(re.findall(r"[\w.+-]+", re.sub(r"\b(AND|OR)\b", " ", said))) - ALLOWED
    }

    assert wrong == {}


def test_the_list_of_third_parties_is_true():
    """Else `python tests/project/test_supply_chain.py > THIRD_PARTY.md` is due."""
    assert (ROOT / "THIRD_PARTY.md").read_text() == listed()


def test_rules_of_security_are_on():
    """All of ruff's, flake8-bandit's (S) among them; what is excused has its reason beside it."""
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    excused = {place: [r for r in rules if re.match(r"S\d", r)] for place, rules in _exempt(lint)}

    assert "ALL" in lint["select"]
    assert {place for place, rules in excused.items() if rules} <= {
        *("tests/**", "benchmarks/**", "deploy/**"),
    }


def test_no_rule_of_security_is_waived_for_all_that_is_served():
    """In the service a line may be excused, and says why; no file and no folder is."""
    for path in (ROOT / "service").rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"ruff: noqa|flake8: noqa", text), path
        for line in text.splitlines():
            # Two spaces and a word after the rule: the reason.
            assert not re.search(r"noqa: S\d+(, \w+)*\s*$", line), f"{path}: {line}"


def _exempt(lint):
    return [("everywhere", lint["ignore"]), *lint["per-file-ignores"].items()]


def test_the_rows_of_the_threats_name_tests_that_there_are():
    """Each threat that is stopped is stopped by something that a test holds."""
    text = (ROOT / "docs" / "threats.md").read_text()
    named = re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", text)

    assert len(named) > 20
    for file, test in named:
        [path] = (ROOT / "tests").rglob(file)
        assert not test or f"\ndef {test}(" in path.read_text(), f"{file}::{test}"


def test_rows_of_the_threats_are_complete():
    """Who, what, what stops it, which test: none of the four is left empty."""
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in (ROOT / "docs" / "threats.md").read_text().splitlines()
        if line.startswith("| ")
    ]

    assert rows
    assert [row for row in rows if len(row) != 4 or not all(row)] == []


if __name__ == "__main__":
    sys.stdout.write(listed())
