"""A workload as a program of its own: becomes whom it is told to be, asks the Workload API, prints JSON lines.

It speaks by the client code that PyPI's ``spiffe`` ships, so that what both sides think of the wire is compared too.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from spiffe._proto import workload_pb2, workload_pb2_grpc

_HEADER = (("workload.spiffe.io", "true"),)
_SECONDS = 30


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("x509", "watch", "jwt", "validate"))
    parser.add_argument("--socket", default=os.environ.get("SPIFFE_ENDPOINT_SOCKET"))
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("--cgroup")
    parser.add_argument("--audience", action="append", default=[])
    parser.add_argument("--spiffe-id", default="")
    parser.add_argument("--token", default="")
    asked = parser.parse_args()
    if asked.cgroup:
        (Path(asked.cgroup) / "cgroup.procs").write_text(str(os.getpid()))
    if asked.gid is not None:
        os.setgroups([])
        os.setgid(asked.gid)
    if asked.uid is not None:
        os.setuid(asked.uid)
    with grpc.insecure_channel(asked.socket) as channel:
        try:
            for line in _answers(workload_pb2_grpc.SpiffeWorkloadAPIStub(channel), asked):
                print(json.dumps(line), flush=True)
        except grpc.RpcError as failed:
            print(json.dumps({"error": failed.code().name, "details": failed.details()}), flush=True)


def _answers(api: Any, asked: argparse.Namespace) -> Iterator[Any]:
    options: dict[str, Any] = {"metadata": _HEADER, "timeout": None if asked.what == "watch" else _SECONDS}
    match asked.what:
        case "x509":
            yield [_x509(svid) for svid in next(api.FetchX509SVID(workload_pb2.X509SVIDRequest(), **options)).svids]
        case "watch":
            for response in api.FetchX509SVID(workload_pb2.X509SVIDRequest(), **options):
                yield [_x509(svid) for svid in response.svids]
        case "jwt":
            request = workload_pb2.JWTSVIDRequest(audience=asked.audience, spiffe_id=asked.spiffe_id)
            svids = api.FetchJWTSVID(request, **options).svids
            yield [{"spiffe_id": svid.spiffe_id, "svid": svid.svid, "claims": _claims(svid.svid)} for svid in svids]
        case "validate":
            request = workload_pb2.ValidateJWTSVIDRequest(audience=asked.audience[0], svid=asked.token)
            found = api.ValidateJWTSVID(request, **options)
            yield {"spiffe_id": found.spiffe_id, "audience": list(found.claims["aud"])}


def _x509(svid: Any) -> dict[str, Any]:
    leaf = x509.load_der_x509_certificate(svid.x509_svid[: _first_length(svid.x509_svid)])
    lives = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    return {
        "spiffe_id": svid.spiffe_id,
        "hint": svid.hint,
        "serial": str(leaf.serial_number),
        "seconds": lives.total_seconds(),
    }


def _first_length(der: bytes) -> int:
    return 4 + int.from_bytes(der[2:4])


def _claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return found


if __name__ == "__main__":
    main()
