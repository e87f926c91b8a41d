"""The end of a listening socket that loses no connection.

The kernel completes connections before the program accepts them. One that it completes between the last `accept` and
`close` is reset, and its client, which has been told that it is connected, loses its request. So the kernel is told
first to pass over the packets that begin a connection, SYN without ACK: what has begun is completed and accepted, and
whoever comes later is refused by the closed port at the second try, a second later.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys

_SO_ATTACH_FILTER = 26  # Linux; the module socket does not name it
_FLAGS = 13  # the byte of the TCP header that holds the flags
_SYN, _SYN_OR_ACK = 0x02, 0x12

# Classic BPF (linux/filter.h): operation, jump if true, jump if false, number.
_PASS_OVER_SYN = (
    (0x30, 0, 0, _FLAGS),  # load the byte
    (0x54, 0, 0, _SYN_OR_ACK),  # and
    (0x15, 0, 1, _SYN),  # is it SYN alone?
    (0x06, 0, 0, 0),  # then nothing of the packet passes
    (0x06, 0, 0, 0xFFFFFFFF),  # of any other all
)


def begin_no_more(listener: socket.socket) -> bool:
    """Let no new connection to `listener` begin; False where the system cannot do that."""
    if sys.platform != "linux":
        return False
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in _PASS_OVER_SYN)
    kept = ctypes.create_string_buffer(program)  # the kernel copies it within the call
    # struct sock_fprog: how many instructions, and where they are
    described = struct.pack("HP", len(_PASS_OVER_SYN), ctypes.addressof(kept))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
    except OSError:  # a kernel without filters
        return False
    return True
