"""The yardstick of object engines: threads that send fixed requests and receive into a ring.

No retries, no parsing but of the head's end, no hand-over: what Python, the kernel and the
server take by themselves. Configuration as JSON on standard input: host, port, descriptor of
the ring, slot_bytes, and for each thread a list of (request, length).
"""

from __future__ import annotations

import json
import mmap
import socket
import sys
import threading
import time


def receive(host: str, port: int, slots: list[memoryview], jobs: list[tuple[str, int]]) -> None:
    """Serve one thread's requests over one connection."""
    head = memoryview(bytearray(4096))
    with socket.create_connection((host, port)) as made:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number, (request, length) in enumerate(jobs):
            slot = slots[number % len(slots)]
            made.sendall(request.encode("latin-1"))
            got = made.recv_into(head)
            end = bytes(head[:got]).index(b"\r\n\r\n") + 4
            if not bytes(head[:got]).startswith(b"HTTP/1.1 206"):
                raise AssertionError(bytes(head[:got]))
            at = got - end
            slot[:at] = head[end:got]
            while at < length:
                at += made.recv_into(slot[at:length], length - at, socket.MSG_WAITALL)


def main() -> None:
    """Run all threads of one process; print start, end and CPU seconds."""
    config = json.load(sys.stdin)
    ring = memoryview(mmap.mmap(config["ring_fd"], 0))
    for start in range(0, len(ring), mmap.PAGESIZE):
        ring[start]
    size = config["slot_bytes"]
    threads = [
        threading.Thread(
            target=receive,
            args=(
                config["host"], config["port"],
                [ring[i * size : (i + 1) * size] for i in slots], jobs,
            ),
        )
        for slots, jobs in config["threads"]
    ]  # fmt: skip
    begin, cpu = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps([begin, time.perf_counter(), time.process_time() - cpu]))


if __name__ == "__main__":
    main()
