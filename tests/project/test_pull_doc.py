"""docs/pull.md: its commands run, its sources are all, and its manifest is valid."""

import os
import subprocess
import sys

import yaml

from service.commands.pull import pull
from service.stores import source
from tests.harness import documents, small
from tests.harness.documents import PAGES, ROOT

PAGE = PAGES["docs/pull.md"]
PROGRAM = "from service.commands.main import main; main()"


def test_the_commands_print_what_the_page_shows(tmp_path):
    """A folder of the test takes the place of the one that is mounted."""
    small.put(tmp_path / "share", "churn", 4, small.three())

    for session in documents.sessions(PAGE):
        command = session.command.replace("/mnt/share", f"{tmp_path}/share")
        [[_, *arguments]] = documents.words(command)
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        # The two streams may come in either order.
        shown = sorted(session.answer.replace("/mnt/share", f"{tmp_path}/share").splitlines())
        documents.check_same("\n".join(sorted(done.stdout.splitlines())), "\n".join(shown))


def test_the_table_has_every_source():
    """Each scheme has a row."""
    [table] = [
        rows
        for rows in documents.tables(documents.section(PAGE, "Sources"))
        if rows[0][0] == "Source"
    ]

    assert {row[0].strip("`").partition(":")[0] for row in table[1:]} == set(source.SCHEMES)


def test_the_manifest_runs_commands_that_there_are():
    """Their options are those of the command, and the paths are mounted."""
    [block] = documents.blocks(PAGE, "yaml")
    manifest = yaml.safe_load(block)

    volumes = {volume["name"] for volume in manifest["volumes"]}
    for container in manifest["initContainers"]:
        name, *arguments = container["args"]
        context = pull.make_context(name, arguments)
        assert source.parse(context.params["source"]).name == "churn"
        [mount] = container["volumeMounts"]
        assert str(context.params["into"]) == mount["mountPath"]
        assert mount["name"] in volumes
    [served] = manifest["containers"]
    assert served["volumeMounts"][0]["readOnly"]
