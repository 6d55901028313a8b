"""Calls greeter in both ways that a program has, once a second."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request

PATH = os.environ["GREETING_PATH"]
BY_NAME = f"http://greeter.hall.svc.cluster.local:8080{PATH}"
BY_UPSTREAM = f"http://{os.environ['UPSTREAM_GREETER_HALL_SVC_CLUSTER_LOCAL_8080']}{PATH}"


def call(how: str, url: str) -> None:
    try:
        # urllib follows http_proxy by itself, as curl and most HTTP clients do.
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
            seen = json.load(answer)["headers"]["x-forwarded-client-cert"]
            print(f"{how}: {answer.status}, greeter sees {seen.rpartition('URI=')[2]}", flush=True)
    except urllib.error.HTTPError as refused:
        print(f"{how}: {refused.code} {refused.read().decode()}", flush=True)
    except OSError as fault:
        print(f"{how}: {fault}", flush=True)


if __name__ == "__main__":
    while True:
        call("by name", BY_NAME)
        call("by upstream", BY_UPSTREAM)
        time.sleep(1)
