"""The limit of open descriptors, and the number of connections that it leaves room for."""

from __future__ import annotations

import errno
import os
import resource

# More than the connections of any machine.  A sandbox closes the descriptors that it inherits, up
# to the limit; without a limit, that would take seconds where the kernel cannot do it in one call.
_MOST = 2**20
# The descriptors kept free for other files: models, certificates, tokens, files in /proc.
RESERVE = 32

# The errors by which the operating system says that resources are short; the file or the peer is
# not at fault.
SHORT = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.ETOOMANYREFS)
)


def raise_limit() -> None:
    """Raise the soft limit of open descriptors to the hard limit; child processes inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    raised = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < raised:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))


def room() -> int:
    """Return the number of connections that this process may open beside its open descriptors."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return _MOST
    return max(1, limit - _opened() - RESERVE)


def _opened() -> int:
    try:
        return len(os.listdir("/dev/fd"))  # noqa: PTH208  only their number matters
    except OSError:
        return RESERVE
