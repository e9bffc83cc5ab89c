"""The limit: a server that is written by hand in C++ and has no bounds, checks, metrics or TLS.

It shows how much there is to be had on a machine with the same ONNX Runtime: `peers/limit.cpp`,
built where a compiler and the headers of its libraries are installed.
"""

from __future__ import annotations

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

SOURCE = Path(__file__).parent / "peers/limit.cpp"
BUILT = Path("build/bench/limit")
PACKAGES = "apt-get install g++ libonnxruntime-dev libsimdjson-dev libllhttp-dev"
# By package, a header that it brings.
HEADERS = {
    "libonnxruntime-dev": "onnxruntime/onnxruntime_cxx_api.h",
    "libsimdjson-dev": "simdjson.h",
    "libllhttp-dev": "llhttp.h",
}
INCLUDED = Path("/usr/include")


class NotBuiltError(Exception):
    """The compiler refused the source; with the end of its output."""


def missing() -> list[str]:
    """Return what the build needs and does not find, by the names of Debian's packages."""
    found = [] if shutil.which("g++") else ["g++"]
    return found + [name for name, header in HEADERS.items() if not (INCLUDED / header).exists()]


def build() -> Path:
    """Build the server, unless that has been done since its source changed; return its path.

    It is linked with the library of the Python package, so that both servers run the same version.

    Raises:
        NotBuiltError: it cannot be compiled.
    """
    library = _library()
    newest = max(SOURCE.stat().st_mtime, library.stat().st_mtime)
    if BUILT.exists() and BUILT.stat().st_mtime > newest:
        return BUILT.resolve()
    BUILT.parent.mkdir(parents=True, exist_ok=True)
    # The compiled server asks for the library by this name.
    link = BUILT.parent / "libonnxruntime.so.1"
    link.unlink(missing_ok=True)
    link.symlink_to(library)
    options = ["-std=c++20", "-O3", "-march=native", f"-I{INCLUDED}/onnxruntime"]
    libraries = [str(link), "-Wl,-rpath,$ORIGIN", "-lsimdjson", "-lllhttp", "-pthread"]
    done = subprocess.run(
        ["g++", *options, "-o", str(BUILT), str(SOURCE), *libraries],  # noqa: S607  on the PATH
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise NotBuiltError(f"{SOURCE}: {done.stderr[-2000:]}")
    return BUILT.resolve()


def _library() -> Path:
    package = find_spec("onnxruntime")
    folders = package.submodule_search_locations if package else None
    if not folders:
        raise NotBuiltError("expected the package onnxruntime, found none")
    return max((Path(folders[0]) / "capi").glob("libonnxruntime.so.*"))
