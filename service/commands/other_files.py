"""Files that are no ONNX model, and the command that makes a model of each."""

from __future__ import annotations

import shlex
import zipfile
from typing import TYPE_CHECKING

from service.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

# The first bytes of an HDF5 file, in which Keras used to save models.
_HDF5 = b"\x89HDF\r\n\x1a\n"
# The names that a Keras model has inside of its zip.
_KERAS = {"config.json", "model.weights.h5"}


def check(path: Path, name: str) -> None:
    """Refuse a Keras model, a table or a spec, with the command that makes a servable model of it.

    Args:
        path: what is to be served.
        name: the name that the model would have.

    Raises:
        SettingsError: it is such a file, or the folder of such a model.
    """
    file = shlex.quote(str(path))
    ending = path.name.lower()
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
        received, way_out = "a table", "write a spec that names it, then "
        command = "triceps train SPEC"
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
