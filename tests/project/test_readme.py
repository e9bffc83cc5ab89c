"""README and docs: each route, command, setting, metric and figure agrees with the code."""

from __future__ import annotations

import ast
import json
import re
import shutil
import tomllib
from dataclasses import fields
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml
from onnx import helper

from service import __version__, errors
from service import settings as all_settings
from service.app import create_app
from service.http import access
from service.inference.model import Model
from service.repository.named_model import open_model
from service.wire.native.examples import golden_instances
from tests.harness import documents, small
from tests.harness.documents import CORPUS, PAGES, ROOT

if TYPE_CHECKING:
    from pathlib import Path

README = PAGES["README.md"]
OPERATIONS = PAGES["docs/operations.md"]


@pytest.fixture(scope="module", name="app")
def _app():
    """Return the app."""
    return create_app(all_settings.load({}, models=ROOT / "models"))


# --- routes, commands, settings, metrics --------------------------------------------------------


def test_every_route_is_there(app):
    """The documents have every route with its method."""
    missing = [
        f"{method} {rule.rule}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if f"`{method} {rule.rule}`" not in CORPUS
    ]
    assert missing == []


def test_no_route_is_made_up(app):
    """A route that a page names is one of the app's."""
    known = {rule.rule for rule in app.url_map.iter_rules()}
    named = set(re.findall(r"`(?:GET|POST) (/[^`?]*)`", CORPUS))
    assert named - known == set()


@pytest.mark.parametrize(
    "command", [entry.name for entry in metadata.entry_points(group="triceps.commands")]
)
def test_every_command_is_there(command):
    """The table of commands has every command."""
    assert re.search(rf"^\| `triceps {command}\b", CORPUS, re.MULTILINE)


@pytest.mark.parametrize("entry", fields(all_settings.Settings), ids=lambda entry: entry.name)
def test_every_setting_is_there(entry):
    """The table of settings has each with its variables, its flag and its default."""
    row = next(
        line for line in CORPUS.splitlines() if f"| `{all_settings.variable(entry)}`" in line
    )
    also = entry.metadata["also"]

    assert f"`--{entry.name.replace('_', '-')}`" in row
    assert all(f"`{name}`" in row for name in also)
    assert entry.default == "" or f"`{entry.default}`" in row


def test_no_setting_is_made_up():
    """Every `TRICEPS_*` that a page names is a setting."""
    known = {all_settings.variable(entry) for entry in fields(all_settings.Settings)}
    assert set(re.findall(r"(?<!_)TRICEPS_[A-Z_]+", CORPUS)) - known <= {"TRICEPS_"}


def test_every_metric_is_there_with_its_labels(app):
    """The table of metrics has exactly the metrics of the service."""
    text = app.test_client().get("/metrics").text
    metrics = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    table = next(
        rows for rows in documents.tables(OPERATIONS) if rows[0][:2] == ["Metric", "Labels"]
    )
    assert {row[0].strip("`") for row in table[1:]} == metrics
    for name, labels, _ in table[1:]:
        plain = name.strip("`")
        for match in re.findall(rf"^{plain}(?:_bucket|_sum|_count)?{{(.*)}}", text, re.MULTILINE):
            used = set(re.findall(r'(\w+)="', match)) - {"le"}
            assert used == set(documents.quoted(labels)), plain


def test_alerts_ask_for_metrics_that_there_are_and_each_is_explained(app):
    """The rules are YAML with existing metrics, and the table below them has a row for each."""
    text = app.test_client().get("/metrics").text
    metrics = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    [block] = documents.blocks(OPERATIONS, "yaml")
    [group] = yaml.safe_load(block)["groups"]
    [of_drift] = yaml.safe_load((ROOT / "deploy" / "drift-rules.yml").read_text())["groups"]
    rules = [rule for rule in (*group["rules"], *of_drift["rules"]) if "alert" in rule]
    for rule in rules:
        assert set(re.findall(r"triceps_\w+", rule["expr"])) <= metrics, rule["alert"]
    explained = re.findall(r"^\| `(Triceps\w+)` \|", OPERATIONS, re.MULTILINE)
    assert explained == [rule["alert"] for rule in rules]


def test_every_status_is_in_both_tables_of_errors():
    """Each error of the service is explained to clients and to operators."""
    statuses = {
        f"{error.status}"
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.RequestError)
    } | {"405", "408", "431", "500", "501"}
    for page in ("docs/http.md", "docs/operations.md"):
        listed = set(re.findall(r"^\| (\d{3}) \|", PAGES[page], re.MULTILINE))
        assert listed == statuses, page


# --- log lines ----------------------------------------------------------------------------------

# Messages from this level on report problems.
LEVELS = {"warning", "error", "exception", "critical"}
PLACEHOLDER = re.compile(r"%[-+0-9.]*[a-z]")


def _lines_that_are_logged() -> set[str]:
    """Return the messages of all warnings and errors of the service, `…` for what varies."""
    lines = set()
    for path in (ROOT / "service").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = {
            node.targets[0].id: node.value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="log"), attr=level), args=[first, *_]
                ) if level in LEVELS:
                    text = texts[first.id] if isinstance(first, ast.Name) else first.value
                    lines.add(PLACEHOLDER.sub("…", text))
    # A message that consists of a reason alone is described in the page's own terms.
    return lines - {"…"}


def test_every_warning_and_error_that_is_logged_is_explained():
    """The tables of log lines have exactly the messages of the code."""
    explained = {
        line
        for rows in documents.tables(OPERATIONS)
        if rows[0][0] == "Line"
        for row in rows[1:]
        for line in documents.quoted(row[0])
    }
    assert explained == _lines_that_are_logged()
    assert "whoever reaches" in (access.warning("0.0.0.0", "") or "")


# --- the shipped model and its spec -------------------------------------------------------------


def test_scores_are_those_of_the_shipped_model():
    """The scores are those in the file of the model."""
    model = Model.load(ROOT / "models" / "triceps" / "1" / "model.onnx")
    for head, score in model.signature.provenance["scores"].items():
        columns = [score["metric"]]
        # A score is recorded with the digits of a float32.
        columns += [f"{np.float32(score[key]):.4f}" for key in ("train", "held_out", "baseline")]
        row = next(line for line in CORPUS.splitlines() if line.startswith(f"| {head}:"))
        assert [cell.strip() for cell in row.strip("|").split("|")][1:] == columns


def test_shipped_model_was_made_from_the_shipped_spec():
    """The provenance of the model has the hash of the spec's text."""
    from training import spec

    model = Model.load(ROOT / "models" / "triceps" / "1" / "model.onnx")
    shipped = spec.load(ROOT / "training" / "specs" / "triceps.toml")

    assert model.signature.provenance["spec_sha256"] == shipped.digest


def test_the_spec_that_is_shown_is_the_one_that_ships():
    """The page shows the shipped spec without its comments."""
    [shown] = documents.blocks(PAGES["docs/training.md"], "toml")
    shipped = (ROOT / "training" / "specs" / "three_heads.toml").read_text()

    assert tomllib.loads(shown) == tomllib.loads(shipped)


def test_the_spec_of_the_readme_is_one_that_trains(tmp_path):
    """The spec is valid for the table that it names."""
    from training import spec

    _make_readers_files("README.md", tmp_path)

    assert list(spec.load(tmp_path / "penguins.toml").heads) == ["species", "mass"]


# --- figures ------------------------------------------------------------------------------------

CELLS = {
    "one row of 784 pixels; 1": "W1-1",
    "one row; 16": "W1-16",
    "one row; 64": "W1-64",
    "32 rows; 16": "W2-16",
    "512 rows, 1 MB; 8": "W3-8",
    "a model of 0.8 ms a row; 1": "heavy-1",
    "a model of 0.8 ms a row; 16": "heavy-16",
    "a model of 0.8 ms a row; 64": "heavy-64",
}
SERVERS = {
    "Triceps": "triceps",
    "Flask + gunicorn": "naive",
    "FastAPI + uvicorn": "fastapi",
    "Robyn": "robyn",
    "mosec": "mosec",
    "mosec, best of three settings": "mosec",
    "Triceps to the best other": "x best other",
}


@pytest.mark.parametrize("page", ["README.md", "docs/performance.md"])
def test_figures_of_the_benchmark_are_those_that_were_published(page):
    """Every figure is in `benchmarks/RESULTS.md`, cell by cell."""
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    header, *rows = next(documents.tables(results))
    published = {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}
    shown_header, *shown_rows = next(
        rows for rows in documents.tables(PAGES[page]) if rows[1][0] in CELLS
    )

    for shown in shown_rows:
        cell = published[CELLS[shown[0]]]
        for server, figure in zip(shown_header[1:], shown[1:], strict=True):
            assert cell[SERVERS[server]].split()[0] == figure, shown[0]


@pytest.mark.parametrize(
    ("page", "pattern", "groups"),
    [
        ("docs/attack.md", r"([\d,]+) attacks, ([\d,]+) right answers", "{} attacks of"),
        ("docs/soak.md", r"\d+ s, ([\d,]+) answers", "{} answers in every dialect"),
    ],
)
def test_figures_of_the_guarantees_are_those_of_the_pages(page, pattern, groups):
    """The README quotes the page that was measured last."""
    match = re.search(pattern, PAGES[page])

    assert match is not None
    assert groups.format(match[1]) in PAGES["docs/guarantees.md"]
    assert all(figure in PAGES["docs/guarantees.md"] for figure in match.groups())


# --- links, and the form of the pages -----------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    """Linked files and headings exist."""
    folder = (ROOT / page).parent
    broken = []
    for link in documents.links(PAGES[page]):
        path, _, anchor = link.partition("#")
        if ":" in path:
            assert path.startswith(("https://", "http://localhost")), link
            continue
        target = (folder / path).resolve() if path else ROOT / page
        if not _is_there(target, anchor):
            broken.append(link)
    assert broken == []


def _is_there(target: Path, anchor: str) -> bool:
    """Return whether a file or folder exists, and has the heading if one is named."""
    if not anchor:
        return target.exists()
    return target.is_file() and anchor in documents.anchors(target.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "path", ["CHANGELOG.md", "SECURITY.md", ".github/CONTRIBUTING.md", "benchmarks/README.md"]
)
def test_links_of_other_pages_lead_somewhere(path):
    """Relative links of other pages lead to existing files."""
    text = (ROOT / path).read_text(encoding="utf-8")
    for link in documents.links(text):
        name, _, anchor = link.partition("#")
        if ":" not in name:
            target = ((ROOT / path).parent / name).resolve() if name else ROOT / path
            assert _is_there(target, anchor), link


@pytest.mark.parametrize("page", PAGES)
def test_no_block_of_code_is_empty(page):
    """Each code block has content and is closed."""
    fences = re.findall(r"^```(.*)$", PAGES[page], re.MULTILINE)

    assert len(fences) % 2 == 0
    assert set(fences[1::2]) <= {""}
    assert re.search(r"^```.*\n\s*```$", PAGES[page], re.MULTILINE) is None


def test_every_page_is_in_the_index():
    """`docs/README.md` links to each page of the folder."""
    linked = {link.partition("#")[0] for link in documents.links(PAGES["docs/README.md"])}
    pages = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")}

    assert pages - {"README.md"} <= linked


def test_the_version_that_is_shown_is_this_one():
    """The greeting of the service and the name of the wheel have the present version."""
    assert set(re.findall(r"Triceps (\d+\.\d+\.\d+) serves", CORPUS)) == {__version__}
    assert set(re.findall(r"triceps-(\d+\.\d+\.\d+)-py3", CORPUS)) == {__version__}


def test_the_readme_is_short():
    """The README has a maximum length, and other pages have the rest."""
    assert len(README.splitlines()) <= 180


def test_the_glossary_is_in_order_and_each_entry_has_a_place():
    """Entries are alphabetical, and each names a module, a page or another entry."""
    glossary = PAGES["docs/glossary.md"]
    entries = re.findall(r"^### (.+)\n((?:(?!### ).*\n?)*)", glossary, re.MULTILINE)
    names = [name.lower() for name, _ in entries]

    assert names == sorted(names)
    assert len(names) == len(set(names))
    assert [name for name, text in entries if "`" not in text and "](" not in text] == []
    paths = re.findall(r"`((?:service|training)/[\w/.]+)`", glossary)
    assert [path for path in paths if not (ROOT / path).exists()] == []


# --- consoles -----------------------------------------------------------------------------------

CONTAINER = "it needs a container engine; the tests of the image do it"
SERVICE = "it starts a service; what is asked of it is asked of the app"
STORE = "tests/project/test_pull_doc.py runs it, with a folder of its own in place of /mnt/share"
OWN = "the test has a folder of its own"
NEWCOMER = "`make newcomer` runs it"
NOT_RUN = {
    "make install-serve": "it installs; every target of the Makefile that is tested begins so",
    "make image": CONTAINER,
    "source .venv/bin/activate": OWN,
    "mkdir -p build/tutorial && cd build/tutorial": OWN,
    "cp ../../training/data/penguins.csv all.csv": OWN,
    "pip wheel --no-deps --wheel-dir dist .": "the tests of the wheel build it, and fetch nothing",
    "pip install dist/triceps-0.1.0-py3-none-any.whl": "the tests of the wheel install it",
    "triceps pull file:///mnt/share/churn --into models": STORE,
    "triceps serve": SERVICE,
    "triceps serve my_model.onnx": SERVICE,
    "triceps serve --tls-certificate tls.crt --tls-key tls.key": SERVICE,
    "openssl req -x509 -newkey rsa:2048 -nodes -days 365 -keyout tls.key -out tls.crt "
    "    -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1": NEWCOMER,
    "TOKEN=$(triceps token shop --scope predict --model triceps)": NEWCOMER,
    'curl -sS -H "Authorization: Bearer $TOKEN" '
    "localhost:8080/models/triceps/example > row.json": NEWCOMER,
    'curl -sS -H "Authorization: Bearer $TOKEN" '
    "-H 'Content-Type: application/json' -d @row.json localhost:8080/models/triceps/predict": (
        NEWCOMER
    ),
    'curl -sS --cacert tls.crt -H "Authorization: Bearer $TOKEN" '
    "https://localhost:8080/models/triceps/example > row.json": NEWCOMER,
    'curl -sS --cacert tls.crt -H "Authorization: Bearer $TOKEN" '
    "-H 'Content-Type: application/json' -d @row.json "
    "https://localhost:8080/models/triceps/predict": NEWCOMER,
    "TRICEPS_TLS_CERTIFICATE=tls.crt triceps health": NEWCOMER,
    "triceps train training/specs/triceps.toml": "it takes minutes, and made the model that ships",
    "triceps train training/specs/triceps.toml --no-publish": "it takes minutes, too",
    "triceps train training/specs/triceps.toml --min-score o1=0.85 --min-score o3=0.98": (
        "it takes minutes, too"
    ),
    "triceps train training/specs/triceps.toml --data ~/my_data": "it takes minutes, too",
    "docker build -t triceps ../..": CONTAINER,
    "docker run --rm -p 127.0.0.1:8080:8080 triceps": CONTAINER,
    'docker run --rm -p 127.0.0.1:8080:8080 -v "$PWD/models:/models:ro" triceps': CONTAINER,
    'docker run --rm -p 127.0.0.1:8080:8080 -v "$PWD/models:/opt/ml/model:ro" triceps serve': (
        CONTAINER
    ),
    "docker run --rm -p 127.0.0.1:8080:8080 "
    "-e AIP_PREDICT_ROUTE=/v1/endpoints/7/deployedModels/8:predict     "
    "-e AIP_HEALTH_ROUTE=/v1/endpoints/7/deployedModels/8 triceps": CONTAINER,
    "docker run --rm --read-only -v models:/models:ro -v cache:/cache -e TRICEPS_CACHE=/cache "
    "-p 127.0.0.1:8080:8080 triceps": CONTAINER,
    "docker volume create models": CONTAINER,
    'docker run --rm -v "$PWD:/work:ro" -w /work -v models:/models triceps-train train '
    "penguins.toml": CONTAINER,
    "mkdir secrets": CONTAINER,
    'docker run --rm --user "$(id -u):$(id -g)" -v "$PWD/secrets:/secrets" triceps token shop '
    "--scope predict --file /secrets/tokens.toml > shop.token": CONTAINER,
    'docker run --rm --user "$(id -u):$(id -g)" -v "$PWD/secrets:/secrets:ro" '
    "-v models:/models:ro -p 127.0.0.1:8080:8080     "
    "-e TRICEPS_TOKENS_FILE=/secrets/tokens.toml     "
    "-e TRICEPS_TLS_CERTIFICATE=/secrets/tls.crt -e TRICEPS_TLS_KEY=/secrets/tls.key triceps": (
        CONTAINER
    ),
    "pip install scikit-learn skl2onnx pandas": NEWCOMER,
    "python make_mine.py": NEWCOMER,
    "curl -s -H 'Content-Type: application/json' localhost:8080/models/mine/predict "
    '    -d \'{"instances": [{"customer": {"age": 25, "income": 4}}]}\'': NEWCOMER,
    "cp models/mine/1/model.onnx my_model.onnx": NEWCOMER,
    "python make_customers.py": NEWCOMER,
    "triceps serve customers.onnx": NEWCOMER,
    "curl -sS -H 'Content-Type: application/json' localhost:8080/predict "
    '    -d \'{"instances": [{"age": 30, "calls": 9, "plan": "basic"}]}\'': NEWCOMER,
    "triceps health": SERVICE,
    "curl -sS localhost:8080/metrics | grep triceps_model_loaded{": SERVICE,
    "docker run --rm -v models:/models triceps-train train training/specs/triceps.toml": CONTAINER,
    "docker run --rm -v models:/models:ro -p 127.0.0.1:8080:8080 triceps": CONTAINER,
}
# The commands that train or export.
WITH_KERAS = {"README.md", "docs/models.md", "docs/tutorial.md", "docs/training.md"}


def _make_readers_files(page: str, folder: Path) -> None:
    """Create the files that a page assumes: models, a table and a spec of it."""
    table = ROOT / "training" / "data" / "penguins.csv"
    if page == "docs/tutorial.md":
        shutil.copy(table, folder / "all.csv")
    elif page in ("README.md", "docs/training.md"):
        shutil.copy(table, folder)
    if page == "README.md":
        [spec] = documents.blocks(README, "toml")
        (folder / "penguins.toml").write_text(spec, encoding="utf-8")
    if page != "docs/tutorial.md":
        shutil.copytree(ROOT / "models" / "triceps", folder / "models" / "triceps")
    if page == "docs/operations.md":
        _make_samples(folder)
    if page in WITH_KERAS and "my_model" in PAGES[page]:
        import keras

        entry = keras.Input((2,), name="customer")
        head = keras.layers.Dense(1, activation="sigmoid", name="churn")(entry)
        keras.Model(entry, head).save(folder / "my_model.keras")
        axes = ["n", 2]
        nodes = [helper.make_node("Softmax", ["customer"], ["churn"], axis=1)]
        model = small.model(nodes, [("customer", small.F, axes)], [("churn", small.F, axes)])
        (folder / "my_model.onnx").write_bytes(model.SerializeToString())


def _make_samples(folder: Path) -> None:
    """Create samples of the shipped model, of which one has no truth."""
    signature = open_model("triceps", folder / "models").signature
    samples = folder / "samples/triceps"
    samples.mkdir(parents=True)
    common = {"time": "2026-01-31T12:00:00.000Z", "model": "triceps", "version": "1", "row": 0}
    rows = [
        json.dumps({**common, "request_id": f"{i}", "instance": row, "answers": {}})
        for i, row in enumerate(golden_instances(signature))
    ]
    (samples / "20260131T120000000Z-17.jsonl").write_text("\n".join(rows) + "\n")
    ids = range(len(rows) - 1)
    (folder / "truth.csv").write_text(
        "request_id,row,o1,o2\n" + "".join(f"{i},0,yes,Apple\n" for i in ids)
    )
    (folder / "apples.csv").write_text("request_id,o2\n" + "".join(f"{i},Apple\n" for i in ids))


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.keras] if page in WITH_KERAS else [])
        for page, text in PAGES.items()
        if documents.sessions(text)
    ],
)
def test_consoles_show_what_happens(page, tmp_path, monkeypatch):
    """Every command prints what its page shows, except for those that are listed with a reason."""
    _make_readers_files(page, tmp_path)
    monkeypatch.chdir(tmp_path)
    console = documents.Console(tmp_path)

    for session in documents.sessions(PAGES[page]):
        if session.command in NOT_RUN:
            console.start(session.command)
            continue
        answer = console.run(session.command)
        if session.answer:
            documents.check_same(answer, session.answer)


def test_only_commands_that_are_shown_are_excused():
    """Every exception is for a command that a page shows."""
    shown = {session.command for text in PAGES.values() for session in documents.sessions(text)}
    assert NOT_RUN.keys() - shown == set()


# --- the answers that the README begins with ----------------------------------------------------


def test_the_first_answer_is_on_the_second_screen_at_the_latest():
    """The first answer is within two screens of about 40 lines."""
    lines = README.splitlines()
    assert next(i for i, line in enumerate(lines) if '"predictions"' in line) < 80


def test_the_answer_that_is_shown_is_the_answer(app):
    """The README shows the shipped model's answer, up to differences between processors."""
    client = app.test_client()
    shown = json.loads(next(line for line in README.splitlines() if '"predictions":[{' in line))

    answer = client.post("/predict", json=client.get("/models/triceps/example").get_json())

    assert answer.get_json() == documents.near(shown)
