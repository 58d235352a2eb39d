"""A cable between two network namespaces that loses and delays packets, as `tc netem` does where the kernel has it.

    python test/support/cable.py LOSS DELAY NAMESPACE NAMESPACE

Each end is a TAP device, 10.77.0.1 and 10.77.0.2; this program carries every frame from one to the other. It prints a
line when all is connected, and ends with its input.
"""

from __future__ import annotations

import fcntl
import os
import queue
import random
import struct
import subprocess
import sys
import threading
import time

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
NAME = "cable"


def end(namespace: str, address: str) -> int:
    """Make a TAP device in a namespace, and return the file by which its frames are read and written."""
    device = os.open("/dev/net/tun", os.O_RDWR)
    name = f"{NAME}{os.getpid() % 10000}-{address[-1]}"
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
    for command in (
        f"ip link set {name} netns {namespace}",
        f"ip -n {namespace} link set lo up",
        f"ip -n {namespace} address add {address}/24 dev {name}",
        f"ip -n {namespace} link set {name} up",
        f"ip -n {namespace} route add 224.0.0.0/4 dev {name}",
    ):
        subprocess.run(command.split(), check=True)
    return device


def carry(source: int, sink: int, loss: float, delay: float) -> None:
    """Carry frames one way for ever: a share of them is lost, the others come ``delay`` seconds later."""
    under_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
    chance = random.Random(0)

    def deliver() -> None:
        while True:
            due, frame = under_way.get()
            time.sleep(max(0.0, due - time.monotonic()))
            os.write(sink, frame)

    threading.Thread(target=deliver, daemon=True).start()
    while True:
        frame = os.read(source, 65536)
        if chance.random() >= loss:
            under_way.put((time.monotonic() + delay, frame))


def main() -> None:
    """Connect the namespaces until the input ends."""
    loss, delay = float(sys.argv[1]), float(sys.argv[2])
    ends = [end(namespace, f"10.77.0.{number}") for number, namespace in enumerate(sys.argv[3:], start=1)]
    for source, sink in (ends, ends[::-1]):
        threading.Thread(target=carry, args=(source, sink, loss, delay), daemon=True).start()
    sys.stdout.write("connected\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
