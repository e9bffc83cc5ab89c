"""Write the bytecode of all modules that the service imports, and of no others.

    PYTHONPYCACHEPREFIX=FOLDER python -P bytecode.py

This is for an image, which has no bytecode of the standard library.  With a read-only file system,
Python would compile the same files at every start and every probe.
"""

import encodings.idna  # noqa: F401  Python imports it only when it looks up a host name
import importlib
import pkgutil
import py_compile
import sys

import service

for entry in pkgutil.walk_packages(service.__path__, "service."):
    importlib.import_module(entry.name)
for module in list(sys.modules.values()):
    spec = getattr(module, "__spec__", None)
    if spec is not None and spec.has_location and spec.cached:
        # Without timestamps, since files in a cached layer of an image have other ones.
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(spec.origin, spec.cached, doraise=True, invalidation_mode=mode)
