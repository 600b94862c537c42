"""The limit of relaying: bytes per CPU second of a process that only reads a socket and writes another."""

from __future__ import annotations

import os
import socket
import sys

BUFFER = 1 << 20


def relay_limit(total: int) -> float:
    """Bytes per CPU second of a process that does nothing but read a socket and write another."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    source, outlet = (socket.create_connection(listener.getsockname()) for listener in listeners)
    entry, sink = (listener.accept()[0] for listener in listeners)
    sender = os.fork()
    if sender == 0:
        block = bytes(BUFFER)
        for _ in range(total // BUFFER):
            source.sendall(block)
        os._exit(0)
    source.close()
    receiver = os.fork()
    if receiver == 0:
        outlet.close()
        view = memoryview(bytearray(BUFFER))
        while sink.recv_into(view):
            pass
        os._exit(0)
    relay = os.fork()
    if relay == 0:
        view = memoryview(bytearray(BUFFER))
        while got := entry.recv_into(view):
            outlet.sendall(view[:got])
        os._exit(0)
    outlet.close()
    entry.close()
    sink.close()
    os.waitpid(sender, 0)
    _, _, usage = os.wait4(relay, 0)
    os.waitpid(receiver, 0)
    return total // BUFFER * BUFFER / (usage.ru_utime + usage.ru_stime)


if __name__ == "__main__":
    print(relay_limit(int(sys.argv[1])))
