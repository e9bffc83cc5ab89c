"""How many descriptors a process may open, and how many connections that leaves room for."""

from __future__ import annotations

import errno
import os
import resource

# More than any machine has connections for.  What is inherited at a fork is closed up to the
# limit, so an unlimited one would cost seconds where the kernel does not do that in one call.
_MOST = 2**20
# Kept free for files that are opened meanwhile: models, certificates, tokens, pages of /proc.
RESERVE = 32

# What the operating system says when the machine, and not the file or the peer, is at fault.
SHORT = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.ETOOMANYREFS)
)


def raise_limit() -> None:
    """Raise the soft limit of open descriptors to the hard one; children inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def room() -> int:
    """How many connections this process may hold, besides what it has open already."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return _MOST
    return max(1, limit - _opened() - RESERVE)


def _opened() -> int:
    try:
        return len(os.listdir("/dev/fd"))  # noqa: PTH208  only their number matters
    except OSError:
        return RESERVE
