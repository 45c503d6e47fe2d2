"""Calls with grpcio as it comes: a JSON line in is a call, begun at once; a JSON line out is how it ended."""

import functools
import json
import sys
import threading

import grpc

lock = threading.Lock()


def end(number, call):
    trailers = dict(call.trailing_metadata() or ())
    line = json.dumps({
        "id": number,
        "code": call.code().value[0],
        "message": call.details() or "",
        "details": trailers.get("grpc-status-details-bin", b"").hex(),
        "answer": call.result().hex() if call.code() is grpc.StatusCode.OK else "",
    })
    with lock:
        print(line, flush=True)


address, gzip = sys.argv[1], sys.argv[2:] == ["gzip"]
channel = grpc.insecure_channel(address, compression=grpc.Compression.Gzip if gzip else None)
for line in sys.stdin:
    call = json.loads(line)
    begun = channel.unary_unary(call["path"]).future(
        bytes.fromhex(call["message"]), timeout=call["timeout"], metadata=tuple(call["metadata"].items())
    )
    begun.add_done_callback(functools.partial(end, call["id"]))
