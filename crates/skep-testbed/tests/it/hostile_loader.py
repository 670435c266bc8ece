"""Writes a loader for x86-64 that changes the mode of /proc/self/exe to 4777 and ends with the error's number."""

import struct
import sys

BASE = 0x10000000
HEADERS = 64 + 56
NAME = b"/proc/self/exe\0"


def code(name_at):
    return b"".join([
        b"\x48\xbf" + struct.pack("<Q", name_at),  # mov rdi, name
        b"\xbe" + struct.pack("<I", 0o4777),  # mov esi, mode
        b"\xb8" + struct.pack("<I", 90) + b"\x0f\x05",  # mov eax, SYS_chmod; syscall
        b"\x89\xc7\xf7\xdf",  # mov edi, eax; neg edi
        b"\xb8" + struct.pack("<I", 60) + b"\x0f\x05",  # mov eax, SYS_exit; syscall
    ])


body = code(BASE + HEADERS + len(code(0))) + NAME
size = HEADERS + len(body)
ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
# ET_EXEC, EM_X86_64, one PT_LOAD that is readable and executable.
header = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, BASE + HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
segment = struct.pack("<IIQQQQQQ", 1, 5, 0, BASE, BASE, size, size, 0x1000)
with open(sys.argv[1], "wb") as out:
    out.write(ident + header + segment + body)
