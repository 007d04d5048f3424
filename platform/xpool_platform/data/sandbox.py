"""What a process that reads other people's files gives up, by Linux's Landlock.

It writes and removes no file, runs no program, opens no TCP connection and looks into no other
process, whose environment may hold credentials. Where the kernel has no Landlock (Linux before
5.13, other systems) nothing is given up, and before 6.7 connections are not.
"""

import ctypes
import sys

CREATE_RULESET, RESTRICT_SELF = 444, 446
"""System calls, the same on x86-64 and ARM."""

VERSION_FLAG = 1
NO_NEW_PRIVILEGES = 38

EXECUTE, WRITE_FILE = 1 << 0, 1 << 1
REMOVE_OR_MAKE = sum(1 << bit for bit in range(4, 13))
MOVE, TRUNCATE = 1 << 13, 1 << 14
TCP = 0b11
"""Listening and connecting."""

SCOPES = 0b11
"""Abstract sockets of, and signals to, processes outside."""


CAPABILITIES_VERSION = 0x20080522
LOOKING = 1 << 19 | 1 << 21 | 1 << 38
"""Capabilities of root to look into other processes: ptrace, administration, performance."""


class _Ruleset(ctypes.Structure):
    _fields_ = [
        ("files", ctypes.c_uint64),
        ("network", ctypes.c_uint64),
        ("scopes", ctypes.c_uint64),
    ]


def give_up_rights() -> bool:
    """Give them up for good, for this thread and all that it starts; False: the kernel cannot."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION_FLAG)
    if version < 1:
        return False
    files = EXECUTE | WRITE_FILE | REMOVE_OR_MAKE
    files |= (MOVE if version >= 2 else 0) | (TRUNCATE if version >= 3 else 0)
    rules = _Ruleset(files, TCP if version >= 4 else 0, SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    descriptor = libc.syscall(CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(size), 0)
    if descriptor < 0:
        return False
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _drop_capabilities(libc)
    return bool(libc.syscall(RESTRICT_SELF, descriptor, 0) == 0)


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Landlock does not hold root, where it has these."""
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_VERSION, 0)
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, of 32 bits each, twice
    if libc.capget(header, held) == 0:
        for half in range(2):
            for kind in range(2):
                held[3 * half + kind] &= ~(LOOKING >> 32 * half) & 0xFFFFFFFF
        libc.capset(header, held)
