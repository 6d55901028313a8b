"""A program that tries what it is asked to, from where it runs: started by ``up``, asked over HTTP. No imports of ours.

``?do=connect&host=H&port=P`` opens a TCP connection, ``?do=unix&path=P`` one to a Unix socket, ``?do=list&path=P``
lists a folder, ``?do=enter&path=P`` and ``?do=uncover&path=P`` try to get out, ``?do=call&url=U`` calls by the proxy
that it was told (``&as=CREDENTIAL``: with that of somebody else), ``?do=tell`` says what it was told.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def connect(asked: dict[str, str]) -> object:
    with socket.create_connection((asked["host"], int(asked["port"])), timeout=30) as there:
        if "say" in asked:
            there.sendall(asked["say"].encode())
            return there.recv(4096).decode(errors="replace")
    return "open"


def unix(asked: dict[str, str]) -> object:
    with socket.socket(socket.AF_UNIX) as there:
        there.connect(asked["path"])
    return "open"


def listing(asked: dict[str, str]) -> object:
    return sorted(os.listdir(asked["path"]))


def enter(asked: dict[str, str]) -> object:
    namespace = os.open(asked["path"], os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")
    return "entered"


def uncover(asked: dict[str, str]) -> object:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(asked["path"].encode(), 2) != 0:
        raise OSError(ctypes.get_errno(), "umount2")
    return "uncovered"


def call(asked: dict[str, str]) -> object:
    proxies = dict.fromkeys(("http", "https"), os.environ["http_proxy"])
    if "as" in asked:
        own = urllib.parse.urlsplit(os.environ["http_proxy"])
        proxies = {"http": f"http://w:{asked['as']}@127.0.0.1:{own.port}"}
    elif asked.get("directly"):
        proxies = {}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    os.environ["no_proxy"] = ""
    try:
        with opener.open(asked["url"], timeout=30) as answer:
            return {"status": answer.status, "body": answer.read().decode(errors="replace")}
    except urllib.error.HTTPError as answer:
        return {"status": answer.code, "body": answer.read().decode(errors="replace")}


def tell(asked: dict[str, str]) -> object:
    return {"env": dict(os.environ), "pid": os.getpid(), "folder": os.getcwd()}


WHAT = {
    "connect": connect,
    "unix": unix,
    "list": listing,
    "enter": enter,
    "uncover": uncover,
    "call": call,
    "tell": tell,
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        told: dict[str, object] = {"name": sys.argv[1], "caller": self.headers.get("x-forwarded-client-cert")}
        try:
            told["result"] = WHAT[asked.get("do", "tell")](asked)
        except OSError as failed:
            told["failed"] = type(failed).__name__
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
