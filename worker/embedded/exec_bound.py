"""The step between fork and exec: a small program that ties itself to its parent and becomes the real server.

`bound.start_bound` runs this file with `python -I -S`; it imports the standard library only. It

1. resets what Python and a background shell hand down (ignored and blocked signals),
2. changes to another user where asked, keeping at most one capability,
3. asks the kernel to send it the death signal when its parent goes, and checks that the parent has not gone already,
4. replaces itself by the server, so that the process id stays the one the parent knows.

A program rather than a `preexec_fn`: Python code between fork and exec can deadlock when the parent has threads.
The order matters: a change of user clears the death signal (prctl(2), PR_SET_PDEATHSIG), so it comes last. It then
survives the exec because the ambient capability is all that the new program has: nothing is gained by the exec, and
only an exec that gains privileges clears it (capabilities(7), "Ambient capability set").
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

CANNOT_START: Final = 126
"""Exit status when the server could not be executed; the reason stands in its log."""

PARENT_GONE: Final = 125
"""Exit status when the parent had died before the death signal was set."""

NOTHING: Final = "-"
"""Stands on the command line for "no other user" and "no capability"."""

# linux/prctl.h
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_KEEPCAPS: Final = 8
_PR_SET_SECUREBITS: Final = 28
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2
_SECBIT_NO_SETUID_FIXUP: Final = 1 << 2
_PRCTL_ARGUMENTS: Final = 5

# linux/capability.h: _LINUX_CAPABILITY_VERSION_3 takes two 32-bit words per set
_CAPABILITY_VERSION: Final = 0x20080522
_CAPABILITY_WORDS: Final = 2


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityWord(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _prctl(*arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    padded = [*arguments, *[0] * (_PRCTL_ARGUMENTS - len(arguments))]
    if libc.prctl(*(ctypes.c_ulong(argument) for argument in padded)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({arguments}): {os.strerror(number)}")


def _keep_only(capability: int) -> None:
    """Make `capability` (a number below 32) the only one, and hand it through the coming exec."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = _CapabilityHeader(_CAPABILITY_VERSION, 0)
    words = (_CapabilityWord * _CAPABILITY_WORDS)()
    words[0] = _CapabilityWord(1 << capability, 1 << capability, 1 << capability)
    if libc.capset(ctypes.byref(header), words) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"capset({capability}): {os.strerror(number)}")
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)


def set_death_signal(death_signal: int) -> None:
    """Ask the kernel to send this process `death_signal` when the thread that started it ends.

    Raises:
        OSError: if the kernel refuses.
    """
    _prctl(_PR_SET_PDEATHSIG, death_signal)


def become(uid: int, gid: int, capability: int | None) -> None:
    """Turn this root process into `uid` and `gid`, with no other group and with at most `capability`.

    No program that it executes later can gain privileges (PR_SET_NO_NEW_PRIVS), set-user-ID programs included.

    Raises:
        OSError: if the process may not change its user or keep the capability.
    """
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    if capability is not None:
        # Without this bit access(2), by which initdb looks for its sibling programs, does not count capabilities.
        _prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP)
        _prctl(_PR_SET_KEEPCAPS, 1)
    os.setresuid(uid, uid, uid)
    if capability is not None:
        _keep_only(capability)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _reset_signals() -> None:
    unchangeable = {signal.SIGKILL, signal.SIGSTOP}
    for number in signal.valid_signals() - unchangeable:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def main(arguments: list[str]) -> None:
    """Run the steps; `arguments` are parent pid, death signal, uid, gid, capability, program and its arguments.

    Never returns: the process ends or becomes the program.
    """
    parent, death_signal, uid, gid, capability, *program = arguments
    _reset_signals()
    try:
        if uid != NOTHING:
            become(int(uid), int(gid), None if capability == NOTHING else int(capability))
        set_death_signal(int(death_signal))
        if os.getppid() != int(parent):
            raise SystemExit(PARENT_GONE)
        os.execv(program[0], program)  # noqa: S606 (replacing this process is its purpose; the arguments are a list)
    except OSError as error:
        sys.stderr.write(f"cannot start {program[0]} (as user id {uid}): {error}\n")
        raise SystemExit(CANNOT_START) from None


if __name__ == "__main__":
    main(sys.argv[1:])
