"""Write the files of a release into dist/, after a test of the wheel outside the checkout.

    .venv/bin/python deploy/release.py build/triceps.cdx.json    (`make release` writes that first)

    HEAD ─ build, twice ─▶ wheel + sdist ┐
    the bill of materials ───────────────┴─ install, serve, ask ─▶ dist/ + SHA256SUMS

The build takes the committed files, in a folder of its own, and the time of the commit.  So another
build of that commit, with the packages of requirements/build.txt, gives the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
SUMS = "SHA256SUMS"
READY_SECONDS = 30


class ReleaseError(Exception):
    """The release cannot be built reproducibly, or does not serve."""


def build(folder: Path) -> list[Path]:
    """Build the wheel and the sdist of HEAD into `folder`, twice, and return their paths.

    The second wheel is built from the sdist, which shows that the sdist is complete.

    Raises:
        ReleaseError: the two builds are not the same, byte for byte.
    """
    first, second = folder / "first", folder / "second"
    _export(folder / "checkout")
    _hatch(folder / "checkout", first, "sdist", "wheel")
    [sdist] = first.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "sdist", filter="data")
    [unpacked] = (folder / "sdist").iterdir()
    _export(folder / "elsewhere" / "checkout")
    # Files of another user may have other permissions; the result must not depend on them.
    before = os.umask(0o077)
    try:
        _hatch(folder / "elsewhere" / "checkout", second, "sdist")
        _hatch(unpacked, second, "wheel")
    finally:
        os.umask(before)
    built = sorted(first.iterdir())
    compare(built, sorted(second.iterdir()))
    return built


def compare(first: list[Path], second: list[Path]) -> None:
    """Compare the files of two builds.

    Raises:
        ReleaseError: the builds differ.
    """
    digests = [{path.name: digest(path) for path in paths} for paths in (first, second)]
    names = sorted({name for name, _ in digests[0].items() ^ digests[1].items()})
    if names:
        message = f"expected two builds to be the same, received different {', '.join(names)}"
        raise ReleaseError(message)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return sha256(path.read_bytes()).hexdigest()


def sums(paths: list[Path]) -> str:
    """Return the lines of a checksum file, as `sha256sum --check` reads them."""
    return "".join(f"{digest(path)}  {path.name}\n" for path in sorted(paths))


def _export(folder: Path) -> None:
    """Write the committed files, and no others, into a folder."""
    folder.mkdir(parents=True)
    file = folder.with_name("committed.tar")
    _run("git", "archive", "--format=tar", f"--output={file}", "HEAD", cwd=ROOT)
    with tarfile.open(file) as archive:
        archive.extractall(folder, filter="data")


def _hatch(checkout: Path, target: Path, *kinds: str) -> None:
    when = _run("git", "log", "-1", "--format=%ct", cwd=ROOT).strip()
    command = [sys.executable, "-P", "-m", "hatchling", "build", "-d", str(target)]
    kinds = tuple(word for kind in kinds for word in ("-t", kind))
    _run(*command, *kinds, cwd=checkout, SOURCE_DATE_EPOCH=when)


def try_out(wheel: Path, folder: Path) -> None:
    """Install a wheel into a new environment, serve the shipped model, and send a request.

    Raises:
        ReleaseError: the model is not served, or the answer does not have every head.
    """
    uv = str(Path(sys.executable).with_name("uv"))
    environment = folder / "venv"
    _run(uv, "venv", "--quiet", "--python", sys.executable, str(environment), cwd=folder)
    install = [uv, "pip", "install", "--quiet", "--python", str(environment)]
    _run(*install, "--require-hashes", "-r", str(ROOT / "requirements/serve.txt"), cwd=folder)
    _run(*install, "--no-deps", str(wheel), cwd=folder)
    triceps = str(environment / "bin/triceps")
    shutil.copyfile(ROOT / "models/triceps/1/model.onnx", folder / "model.onnx")
    print(_run(triceps, "--version", cwd=folder).strip())
    with _served(triceps, folder) as url:
        body = _ask(f"{url}/models/model/example")
        about = _ask(f"{url}/models/model")
        answer = _ask(f"{url}/predict", json.dumps(body).encode())
    heads = [sorted(row) for row in answer["predictions"]]
    if heads != [sorted(about["heads"])]:
        raise ReleaseError(f"/predict: expected every head of the model, received {answer}")


@contextlib.contextmanager
def _served(triceps: str, folder: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [triceps, "serve", "model.onnx", "--port", str(port), "--grace", "0"]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  the wheel that was just built
            command, cwd=folder, env=_environment(), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        until = time.monotonic() + READY_SECONDS
        while True:
            with contextlib.suppress(OSError):
                _ask(f"{url}/readyz")
                break
            if process.poll() is not None or time.monotonic() > until:
                raise ReleaseError(f"triceps serve: not ready; its output: {log.read_text()}")
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(READY_SECONDS)


def _ask(url: str, body: bytes | None = None) -> Any:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, body, headers)  # noqa: S310  of the server just started
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  as above
        return json.load(answer)


def _environment(**variables: str) -> dict[str, str]:
    """Return this environment without the variables that affect a program's modules or settings."""
    dropped = ("PYTHON", "TRICEPS_", "VIRTUAL_ENV")
    return {k: v for k, v in os.environ.items() if not k.startswith(dropped)} | variables


def _run(*command: str, cwd: Path, **variables: str) -> str:
    done = subprocess.run(  # noqa: S603  commands of this file
        command, cwd=cwd, env=_environment(**variables), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ReleaseError(f"{' '.join(command)}: ended with {done.returncode}: {done.stderr}")
    return done.stdout


def main() -> None:
    """Build and test the release, and write its files into dist/."""
    bill = Path(sys.argv[1]).resolve()
    if changed := _run("git", "status", "--porcelain", cwd=ROOT).splitlines():
        print(f"triceps: {len(changed)} changed files are not committed and not in the release")
    with TemporaryDirectory(prefix="release-") as name:
        folder = Path(name)
        built = build(folder)
        [wheel] = [path for path in built if path.suffix == ".whl"]
        try_out(wheel, folder)
        shutil.rmtree(DIST, ignore_errors=True)
        DIST.mkdir()
        # The name has the version, since it may be downloaded next to those of other versions.
        bill_name = "-".join(wheel.name.split("-")[:2]) + ".cdx.json"
        paths = [Path(shutil.copyfile(path, DIST / path.name)) for path in built]
        paths.append(Path(shutil.copyfile(bill, DIST / bill_name)))
    (DIST / SUMS).write_text(sums(paths))
    print(sums(paths), end="")


if __name__ == "__main__":
    try:
        main()
    except (ReleaseError, OSError) as error:
        sys.exit(f"triceps: {error}")
