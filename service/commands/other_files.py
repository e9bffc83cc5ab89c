"""Files and folders that cannot be served as they are, and the command that helps with each."""

from __future__ import annotations

import shlex
import zipfile
from typing import TYPE_CHECKING

from service.errors import SettingsError
from service.repository.publish import FILE, versions
from service.repository.scan import as_name

if TYPE_CHECKING:
    from pathlib import Path

    from service.repository.scan import Scan

# The first bytes of an HDF5 file, in which Keras used to save models.
_HDF5 = b"\x89HDF\r\n\x1a\n"
# The names that a Keras model has inside of its zip.
_KERAS = {"config.json", "model.weights.h5"}


def check(path: Path, scan: Scan) -> None:
    """Refuse a Keras model, a table, a spec, or a model's folder in place of its repository.

    Args:
        path: what is to be served.
        scan: the scan of it, which gives a file its name as a model.

    Raises:
        SettingsError: it is one of these; the message has the command that helps.
    """
    file = shlex.quote(str(path))
    ending = path.name.lower()
    name = next(iter(scan.by_name), as_name(path.name))
    if not scan.by_name and any((path / str(v) / FILE).is_file() for v in versions(path)):
        parent = shlex.quote(str(path.absolute().parent))
        message = (
            f"{path}: expected a repository, which has a folder for each model, received the "
            f"folder of one model with its versions: triceps serve --models {parent}"
        )
        raise SettingsError(message)
    if (path / "saved_model.pb").is_file():
        received = "a TensorFlow SavedModel"
        way_out = f"save it by model.save('{name}.keras') where it was made, then "
        command = f"triceps export {name}.keras --name {name}"
    elif not path.is_file():
        return
    elif ending.endswith((".keras", ".h5", ".hdf5")) or _is_keras(path):
        received, way_out = "a Keras model", ""
        command = f"triceps export {file} --name {name}"
    elif ending.endswith(".toml"):
        received, way_out = "a training spec", ""
        command = f"triceps train {file}"
    elif ending.endswith((".csv", ".csv.gz", ".csv.xz", ".csv.bz2", ".csv.zip")):
        received, way_out = "a table", "name the columns to learn: "
        command = f"triceps init {file} --head COLUMN --name {name} && triceps train {name}.toml"
    else:
        return
    message = (
        f"{path}: expected an ONNX file or a repository of models, received {received}. "
        f"To serve a model of it: {way_out}{command} && triceps serve"
    )
    raise SettingsError(message)


def _is_keras(path: Path) -> bool:
    """Return whether the content of a file is that of a saved Keras model."""
    try:
        with path.open("rb") as file:
            if file.read(len(_HDF5)) == _HDF5:
                return True
            # An ONNX file is never a zip, whose look-up would take time for a large file.
            file.seek(0)
            if file.read(2) != b"PK":
                return False
        with zipfile.ZipFile(path) as archive:
            return {*archive.namelist()} >= _KERAS
    except (OSError, zipfile.BadZipFile):
        return False
