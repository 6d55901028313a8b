"""Makes, or enters, the namespaces of one workload (Linux), as a program of its own: ``python -I -S isolate.py ...``.

``create [TCP_PORT DNS_PORT]``: a new user and network namespace with nothing in it but a loopback interface. Says
``ready``, stays until its standard input ends, so that somebody can take hold of them (:mod:`isthmus.proxy.namespace`).
With the ports, TCP connections to anywhere but the loopback are redirected to the one there, and DNS to the other.

``enter PARENT USER_FD NET_FD [--hide FOLDER | --show FOLDER]... -- PROGRAM ...``: becomes PROGRAM in those namespaces,
and gets SIGTERM when PARENT dies. With ``--hide`` PROGRAM cannot see what is in the FOLDERs (but for the one that it
starts in and those to ``--show``), nor take the cover off, nor look into the processes that can: it has a mount
namespace, and a user namespace inside the given one, of its own.

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
import subprocess
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
NETLINK_ROUTE, RTM_NEWROUTE, RTA_OIF, RT_TABLE_LOCAL, RTPROT_BOOT, RT_SCOPE_HOST, RTN_LOCAL = 0, 24, 4, 255, 3, 254, 2
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE = 1, 4, 0x200, 0x400
"""rtnetlink(7), netlink(7)."""
_NFT = "nft"
EXIT_NOT_STARTED = 127
"""As of a shell."""
READY = "ready"

_libc = ctypes.CDLL(None, use_errno=True)


def create(redirected: list[str]) -> None:
    """Raises OSError where the system does not allow it."""
    _unshare(CLONE_NEWUSER | CLONE_NEWNET)
    _loopback_up()
    if redirected:
        connections, names = map(int, redirected)
        _everything_is_here()
        _redirect(connections, names)
    # Within its own network any port is the program's: nobody else could have it. Not vital; /proc may be read-only.
    _try_to_write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
    print(READY, flush=True)
    sys.stdin.buffer.read()


def enter(parent: int, user: int, network: int, hidden: list[str], shown: list[str], argv: list[str]) -> None:
    """Does not return if all goes well. Raises OSError."""
    _call("setns", _libc.setns(user, CLONE_NEWUSER))
    _call("setns", _libc.setns(network, CLONE_NEWNET))
    os.close(user)
    os.close(network)
    if hidden:
        _call("unshare", _libc.unshare(CLONE_NEWNS))
        for folder in hidden:
            _cover(os.path.realpath(folder), [os.path.realpath(one) for one in shown])
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


def _cover(folder: str, shown: list[str]) -> None:
    """With nothing; what PROGRAM starts in stays, if it is within, and so do the folders ``shown``."""
    here = os.getcwd()
    if here == folder:
        raise OSError(errno.EACCES, "the program would start in a folder that is hidden from it", folder)
    within = [each for each in dict.fromkeys((here, *shown)) if each.startswith(folder + os.sep)]
    kept = {each: os.open(each, os.O_PATH | os.O_DIRECTORY) for each in within}
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    _mount(b"tmpfs", folder, b"tmpfs", flags, b"size=64k,mode=0755")
    for each, descriptor in kept.items():
        os.makedirs(each, exist_ok=True)
        _mount(b"/proc/self/fd/%d" % descriptor, each, None, MS_BIND | MS_REC, None)
        os.close(descriptor)
        if each != here:
            # To be seen, not to be changed: a socket in it could be replaced by one of PROGRAM's own.
            _mount(b"none", each, None, flags | MS_REMOUNT | MS_BIND | MS_RDONLY, None)
    if here in kept:
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


def _everything_is_here() -> None:
    """Route every IPv4 address to the loopback: a connection must have a way before it can be redirected.

    RTM_NEWROUTE of rtnetlink(7): ``ip route add local default dev lo``.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE) as netlink:
        loopback = struct.pack("=HHi", 8, RTA_OIF, socket.if_nametoindex("lo"))
        route = struct.pack("=8BI", socket.AF_INET, 0, 0, 0, RT_TABLE_LOCAL, RTPROT_BOOT, RT_SCOPE_HOST, RTN_LOCAL, 0)
        content = route + loopback
        flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
        netlink.send(struct.pack("=IHHII", 16 + len(content), RTM_NEWROUTE, flags, 1, 0) + content)
        (failed,) = struct.unpack_from("=i", netlink.recv(4096), 16)
        if failed:
            raise OSError(-failed, f"route: {os.strerror(-failed)}")


def _redirect(connections: int, names: int) -> None:
    """What leaves for anywhere but the loopback goes to the one port, DNS (also that of a local stub) to the other.

    IPv6 goes nowhere: it has no route here, and would not be let out if somebody laid one.
    """
    rules = f"""table inet isthmus {{
      chain calls {{
        type nat hook output priority -100; policy accept;
        udp dport 53 redirect to :{names}
        meta nfproto ipv4 meta l4proto tcp ip daddr != 127.0.0.0/8 redirect to :{connections}
      }}
      chain out {{
        type filter hook output priority 0; policy accept;
        meta nfproto ipv6 ip6 daddr != ::1 drop
      }}
    }}"""
    # nf_tables(8) by the system's own program: its wire form is not one to write by hand.
    try:
        done = subprocess.run((_NFT, "-f", "-"), input=rules, text=True, capture_output=True, check=False)
    except FileNotFoundError:
        raise OSError(errno.ENOENT, "nft is not installed: connections cannot be redirected") from None
    if done.returncode != 0:
        raise OSError(errno.EPERM, f"nft: {done.stderr.strip().splitlines()[0] if done.stderr.strip() else 'refused'}")


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
            create(words[1:])
            return 0
        cut = words.index("--")
        parent, user, network = (int(word) for word in words[1:4])
        options = list(zip(words[4:cut:2], words[5:cut:2], strict=True))
        hidden, shown = ([folder for option, folder in options if option == name] for name in ("--hide", "--show"))
        enter(parent, user, network, hidden, shown, words[cut + 1 :])
    except OSError as failed:
        print(": ".join(filter(None, (failed.filename, failed.strerror))), file=sys.stderr)
    return EXIT_NOT_STARTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
