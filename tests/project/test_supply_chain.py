"""The dependencies and their licences, and the security checks on the code.

`python tests/project/test_supply_chain.py > THIRD_PARTY.md` rewrites the list.
"""

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Licences under which anyone may use and ship a package unchanged with Triceps.
ALLOWED = {
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-0"),
    *("PSF-2.0", "Python-2.0", "Unicode-3.0", "Unlicense", "Zlib"),
    # A licence that covers only the package's own files, which are not changed here.
    "MPL-2.0",
}
# Licences that metadata state in other words than an SPDX expression.
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
# The beginnings of licence texts, for packages that have nothing else.
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

# The folders of service/wire/protos, with the projects whose protocols they define.
DEFINED = {
    "google/protobuf": ("protocolbuffers/protobuf", "BSD-3-Clause"),
    "google/rpc": ("googleapis/googleapis", "Apache-2.0"),
    "grpc": ("grpc/grpc, grpc/grpc-proto", "Apache-2.0"),
    "inference": (
        "kserve/open-inference-protocol, kserve/kserve, triton-inference-server/common",
        "Apache-2.0, BSD-3-Clause",
    ),
    "tensorflow": ("tensorflow/tensorflow", "Apache-2.0"),
    "tensorflow_serving": ("tensorflow/serving", "Apache-2.0"),
}
DEFINITIONS = """\
## Protocols

The definitions of messages in `service/wire/protos/` have the fields, numbers and types of these \
projects; each file names its source.

| Folder | Source | Licence |
|---|---|---|
"""


def locked(name):
    """Return the packages of a lock, by name."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return sorted(re.findall(r"^([a-z0-9][a-z0-9._-]*)==", text, re.MULTILINE))


def optional(extra):
    """Return the packages that an extra names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [re.match(r"[\w.-]+", text)[0] for text in project["optional-dependencies"][extra]]


def licence(name):
    """Return a package's licence as an SPDX expression, or in its own words."""
    distribution = metadata.distribution(name)
    if (expression := distribution.metadata.get("License-Expression")) is not None:
        return expression
    stated = [
        line.rpartition(" :: ")[2]
        for line in distribution.metadata.get_all("Classifier") or []
        if line.startswith("License :: ") and not line.endswith("OSI Approved")
    ]
    words = stated or [(distribution.metadata.get("License") or "").strip().partition("\n")[0]]
    if words == [""]:
        texts = [
            file.read_text() for file in distribution.files or [] if "LICENSE" in file.name.upper()
        ]
        words = [name for name, phrase in TEXTS.items() if any(phrase in text for text in texts)]
    return " OR ".join(sorted({WORDS.get(word, word) for word in words}))


def listed():
    """Return the expected content of THIRD_PARTY.md."""
    serve, train = locked("serve"), locked("train")
    parts = [HEAD]
    for title, names in (
        ("To serve", serve),
        ("To train, besides", [name for name in train if name not in serve]),
        ("To pull from object stores, besides", optional("stores")),
    ):
        rows = "".join(f"| {name} | {licence(name)} |\n" for name in names)
        parts.append(f"## {title}\n\n| Package | Licence |\n|---|---|\n{rows}")
    rows = "".join(f"| {folder} | {' | '.join(of)} |\n" for folder, of in DEFINED.items())
    parts.append(DEFINITIONS + rows)
    return "\n".join(parts)


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(locked("serve"), id="serve"),
        pytest.param(locked("train"), id="train"),
        pytest.param(optional("stores"), id="stores"),
    ],
)
def test_every_locked_package_has_an_allowed_licence(names):
    """Every part of a licence expression is allowed."""
    wrong = {
        name: stated
        for name in names
        if not (stated := licence(name))
        or set(re.findall(r"[\w.+-]+", re.sub(r"\b(AND|OR)\b", " ", stated))) - ALLOWED
    }

    assert wrong == {}


def test_the_list_of_third_parties_is_true():
    """THIRD_PARTY.md is up to date; otherwise this file, run as a program, prints it."""
    assert (ROOT / "THIRD_PARTY.md").read_text() == listed()


def test_every_definition_of_a_protocol_is_in_the_list():
    """The source that a file of definitions names is among those of its folder."""
    protos = ROOT / "service" / "wire" / "protos"
    for path in protos.rglob("*.proto"):
        place = path.relative_to(protos).as_posix()
        (projects,) = (of for folder, (of, _) in DEFINED.items() if place.startswith(f"{folder}/"))
        comment = path.read_text().partition("syntax")[0]
        sources = re.findall(r"(?:Source:|,|and)\s(?:// )?(\S+/\S+) \S+\.proto", comment)

        assert sources, path
        assert set(sources) <= set(projects.split(", ")), path


def test_rules_of_security_are_on():
    """All rules of flake8-bandit (S) are on, and each exception has a reason beside it."""
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    excused = {place: [r for r in rules if re.match(r"S\d", r)] for place, rules in _exempt(lint)}

    assert "ALL" in lint["select"]
    assert {place for place, rules in excused.items() if rules} <= {
        *("tests/**", "benchmarks/**", "deploy/**"),
    }


def test_no_security_rule_is_waived_for_a_file_of_the_service():
    """In the service, only single lines have exceptions, with a reason."""
    for path in (ROOT / "service").rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"ruff: noqa|flake8: noqa", text), path
        for line in text.splitlines():
            # The reason follows the rule after two spaces.
            assert not re.search(r"noqa: S\d+(, \w+)*\s*$", line), f"{path}: {line}"


def _exempt(lint):
    return [("everywhere", lint["ignore"]), *lint["per-file-ignores"].items()]


def test_rows_of_the_threats_name_existing_tests():
    """Each row of docs/threats.md names existing tests."""
    text = (ROOT / "docs" / "threats.md").read_text()
    named = re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", text)

    assert len(named) > 20
    for file, test in named:
        texts = [path.read_text() for path in (ROOT / "tests").rglob(file)]
        assert any(f"\ndef {test}" in text for text in texts), f"{file}::{test}"


def test_rows_of_the_threats_are_complete():
    """Each row has an attacker, an attack, a defence and a test."""
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in (ROOT / "docs" / "threats.md").read_text().splitlines()
        if line.startswith("| ")
    ]

    assert rows
    assert [row for row in rows if len(row) != 4 or not all(row)] == []


if __name__ == "__main__":
    sys.stdout.write(listed())
