"""Makes, or enters, the namespaces of one workload (Linux), as a program of its own: ``python -I -S isolate.py ...``.

``create``: a new user and network namespace with nothing in it but a loopback interface. Says ``ready``, stays until
its standard input ends, so that somebody can take hold of them (:mod:`isthmus.proxy.namespace`).

``enter PARENT USER_FD NET_FD [--hide FOLDER]... -- PROGRAM ...``: becomes PROGRAM in those namespaces, and gets SIGTERM
when PARENT dies. With ``--hide`` PROGRAM cannot see what is in the FOLDERs (but for the one that it starts in), nor
take the cover off, nor look into the processes that can: it has a mount namespace, and a user namespace inside the
given one, of its own.

It imports nothing of ours, as :mod:`isthmus.proxy.tied` does not, and has no threads, which setns(2) demands.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import sys

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
"""unshare(2)."""
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 8, 32, 4096, 16384
"""mount(2)."""
PR_SET_PDEATHSIG = 1
"""prctl(2)."""
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
"""netdevice(7)."""
EXIT_NOT_STARTED = 127
"""As of a shell."""
READY = "ready"

_libc = ctypes.CDLL(None, use_errno=True)


def create() -> None:
    """Raises OSError where the system does not allow it."""
    _unshare(CLONE_NEWUSER | CLONE_NEWNET)
    _loopback_up()
    # Within its own network any port is the program's: nobody else could have it. Not vital; /proc may be read-only.
    _try_to_write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
    print(READY, flush=True)
    sys.stdin.buffer.read()


def enter(parent: int, user: int, network: int, hidden: list[str], argv: list[str]) -> None:
    """Does not return if all goes well. Raises OSError."""
    _call("setns", _libc.setns(user, CLONE_NEWUSER))
    _call("setns", _libc.setns(network, CLONE_NEWNET))
    os.close(user)
    os.close(network)
    if hidden:
        _call("unshare", _libc.unshare(CLONE_NEWNS))
        for folder in hidden:
            _cover(os.path.realpath(folder))
        # Covers are locked for a mount namespace whose user namespace is below theirs (mount_namespaces(7)).
        _unshare(CLONE_NEWUSER | CLONE_NEWNS)
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        # It died before we asked to hear of it.
        sys.exit(EXIT_NOT_STARTED)
    os.execvp(argv[0], argv)  # noqa: S606 (there is no shell, and shall be none)


def _unshare(flags: int) -> None:
    """With a new user namespace, in which we are who we were before."""
    uid, gid = os.geteuid(), os.getegid()
    _call("unshare", _libc.unshare(flags))
    # The kernel asks for it before it lets an ordinary user map a group.
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{uid} {uid} 1")
    _write("/proc/self/gid_map", f"{gid} {gid} 1")


def _cover(folder: str) -> None:
    """With nothing; what PROGRAM starts in stays, if it is within."""
    here = os.getcwd()
    if here == folder:
        raise OSError(errno.EACCES, "the program would start in a folder that is hidden from it", folder)
    kept = os.open(here, os.O_PATH | os.O_DIRECTORY) if here.startswith(folder + os.sep) else None
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    _mount(b"tmpfs", folder, b"tmpfs", flags, b"size=64k,mode=0755")
    if kept is not None:
        os.makedirs(here)
        _mount(b"/proc/self/fd/%d" % kept, here, None, MS_BIND | MS_REC, None)
        os.close(kept)
        # By its name: where we stood is below the cover, and would lead around it.
        os.chdir(here)
    _mount(b"tmpfs", folder, None, flags | MS_REMOUNT | MS_RDONLY, b"size=64k,mode=0755")


def _mount(source: bytes, target: str, kind: bytes | None, flags: int, options: bytes | None) -> None:
    _call(f"mount on {target}", _libc.mount(source, os.fsencode(target), kind, flags, options))


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack("16sh22x", b"lo", 0))
        flags = struct.unpack("16sh22x", asked)[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | IFF_UP))


def _call(what: str, result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _try_to_write(path: str, text: str) -> None:
    try:
        _write(path, text)
    except OSError:
        return


def main(words: list[str]) -> int:
    try:
        if words[0] == "create":
            create()
            return 0
        cut = words.index("--")
        parent, user, network = (int(word) for word in words[1:4])
        enter(parent, user, network, words[5:cut:2], words[cut + 1 :])
    except OSError as failed:
        print(": ".join(filter(None, (failed.filename, failed.strerror))), file=sys.stderr)
    return EXIT_NOT_STARTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
