"""Write the bytecode of all that the service imports, and of nothing else, where Python is told to.

    PYTHONPYCACHEPREFIX=FOLDER python -P bytecode.py

For an image: it has no bytecode of Python's own, and read-only it would compile the same files at
every start and every probe.
"""

import encodings.idna  # noqa: F401  which is first imported when a host's name is looked up
import importlib
import pkgutil
import py_compile
import sys

import service

for found in pkgutil.walk_packages(service.__path__, "service."):
    importlib.import_module(found.name)
for module in list(sys.modules.values()):
    spec = getattr(module, "__spec__", None)
    if spec is not None and spec.has_location and spec.cached:
        # By no timestamp, since a build that takes a layer from its cache has files with another.
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(spec.origin, spec.cached, doraise=True, invalidation_mode=mode)
