"""Messages of the start barrier: a worker's hello, and the first worker's answer, "go" or a rejection.

With a token that all workers share, both prove that they know it by an HMAC. The token itself is never sent.
"""

from __future__ import annotations

import hashlib
import hmac
import json

from fer.train.distributed.cluster_resolver import Cluster

WORKERS_DIFFER, TOKEN_DIFFERS, INDEX_TAKEN = b"another list\n", b"another token\n", b"taken\n"


def encode_hello(workers: Cluster, token: str) -> bytes:
    """Returns the line that identifies a worker."""
    proof = _make_proof(token, workers.index, workers)
    return json.dumps({"index": workers.index, "workers": workers.workers, "proof": proof}).encode() + b"\n"


def parse_hello(line: bytes, workers: Cluster, token: str) -> tuple[int, bytes]:
    """Returns the index of the worker that sent a line and b""; or 0 and the answer to send."""
    try:
        hello = json.loads(line)
        index, names, proof = hello["index"], hello["workers"], str(hello.get("proof", ""))
    except (ValueError, RecursionError, TypeError, LookupError, AttributeError):
        return 0, b""
    if names != list(workers.workers):
        return 0, WORKERS_DIFFER
    if type(index) is not int or not 0 < index < len(names):
        return 0, b""
    expected = _make_proof(token, index, workers).encode()
    return (index, b"") if hmac.compare_digest(proof.encode("utf-8", "replace"), expected) else (0, TOKEN_DIFFERS)


def encode_go(index: int, workers: Cluster, token: str) -> bytes:
    """Returns the line that lets worker `index` start."""
    return f"go {_make_proof(token, f'go {index}', workers)}\n".encode()


def _make_proof(token: str, message: int | str, workers: Cluster) -> str:
    """Returns an HMAC that proves knowledge of the token; "" without a token."""
    if not token:
        return ""
    return hmac.new(token.encode(), f"{message} {','.join(workers.workers)}".encode(), hashlib.sha256).hexdigest()
