"""Channels of grpcio as it comes, each with its first call so long after its connection; a JSON line is how one ended."""

import json
import sys
import threading
import time

import grpc

address, count, first, last = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
lock = threading.Lock()


def late(number):
    # Otherwise channels to one address share a connection.
    channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
    grpc.channel_ready_future(channel).result(timeout=60)
    time.sleep(first + (last - first) * number / count)
    call = channel.unary_unary("/grpc.health.v1.Health/Check").future(b"", timeout=60)
    line = json.dumps({"code": call.code().value[0], "message": call.details() or ""})
    with lock:
        print(line, flush=True)
    channel.close()


threads = [threading.Thread(target=late, args=(number,)) for number in range(count)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
