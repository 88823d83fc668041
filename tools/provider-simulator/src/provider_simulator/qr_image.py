"""A picture that looks like the QR code of a pairing: a square of modules in a PNG. Not a readable QR. Pure."""

import base64
import struct
import zlib
from hashlib import sha256

SIZE = 29  # modules
SCALE = 8  # pixels per module
QUIET = 4  # modules of margin


def data_uri(code: str) -> str:
    """The PNG of this code as a data URI."""
    rows = [_row(_modules(code), y) for y in range(SIZE + 2 * QUIET)]
    pixels = b"".join(b"\x00" + row for row in rows for _ in range(SCALE))
    side = (SIZE + 2 * QUIET) * SCALE
    png = b"\x89PNG\r\n\x1a\n" + b"".join((
        _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)),
        _chunk(b"IDAT", zlib.compress(pixels)),
        _chunk(b"IEND", b""),
    ))  # fmt: skip
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _modules(code: str) -> list[bool]:
    """Pseudo-random modules from the code, with the three finder squares."""
    bits = b"".join(sha256(f"{code}|{i}".encode()).digest() for i in range(SIZE * SIZE // 256 + 1))
    modules = [bool(bits[i // 8] >> (i % 8) & 1) for i in range(SIZE * SIZE)]
    for top, left in ((0, 0), (0, SIZE - 7), (SIZE - 7, 0)):
        for y in range(7):
            for x in range(7):
                ring = max(abs(y - 3), abs(x - 3))
                modules[(top + y) * SIZE + left + x] = ring != 2
    return modules


def _row(modules: list[bool], y: int) -> bytes:
    row = bytearray()
    for x in range(SIZE + 2 * QUIET):
        inside = QUIET <= x < SIZE + QUIET and QUIET <= y < SIZE + QUIET
        dark = inside and modules[(y - QUIET) * SIZE + x - QUIET]
        row += bytes([0 if dark else 255]) * SCALE
    return bytes(row)
