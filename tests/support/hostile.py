"""Arrays and JSON as somebody would write them to break a reader, each by a name."""

from __future__ import annotations

MAGIC = b"\x93NUMPY\x01\x00"


def npy(header: bytes, content: bytes = b"", magic: bytes = MAGIC) -> bytes:
    return magic + len(header).to_bytes(2, "little") + header + content


def described(shape: str, kind: str = "<f4") -> bytes:
    return f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()


HOSTILE_ARRAYS = {
    "empty": b"",
    "magic only": MAGIC,
    "unknown version": npy(described("(1,)"), bytes(4), b"\x93NUMPY\x09\x00"),
    "nul in the header": npy(b"{'descr': '<f4\0', 'fortran_order': False, 'shape': (1,)}\n", bytes(4)),
    # Python's tokenizer ends on it with a SystemError.
    "nul in a second line": npy(
        b"   escr': '\nf4', 'fortran_order': False, 'shape': (2, 3), }           (        \x00"
    ),
    "unclosed": npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,"),
    "open string": npy(b"{'descr': '<f4"),
    "no dictionary": npy(b"[1, 2]\n"),
    "no shape": npy(b"{'descr': '<f4', 'fortran_order': False}\n"),
    "90 digits": npy(described(f"({'9' * 90},)"), bytes(4)),
    "3,000 digits": npy(described(f"({'9' * 3000},)"), bytes(4)),
    "2^42 values": npy(described(f"({2**42},)"), bytes(4)),
    "wraps to nothing": npy(described(f"({2**32}, {2**32})"), b""),
    "huge beside nothing": npy(described(f"(0, {2**63})"), b""),
    "negative": npy(described("(-1,)"), bytes(4)),
    "negative twice": npy(described("(-1, -1)"), bytes(4)),
    "a float": npy(described("(1.0,)"), bytes(4)),
    "deep": npy(described("(" * 900 + "1," + ")" * 900), bytes(4)),
    "shorter than declared": npy(described("(2,)"), bytes(4)),
    "longer than declared": npy(described("(2,)"), bytes(12)),
    "objects": npy(described("(1,)", "|O"), bytes(8)),
    "no type": npy(described("(1,)", "zzz"), bytes(8)),
    "nothing wide": npy(described(f"({2**40},)", "<U0")),
    "no text": npy(described("(1,)", "<U1"), b"\xff\xff\xff\xff"),
    "header of 60 kB": npy(b" " * 60_000 + described("(1,)"), bytes(4)),
}

HOSTILE_JSON = (
    "[" * 2_000,
    "[" * 100_000 + "]" * 100_000,
    "[" * 65 + "]" * 65,
    '{"a":' * 65 + "1" + "}" * 65,
    "1" * 4_301,
    "-" + "1" * 65,
    "1" * 5_000_000,
    "1e999",
    "-1e999",
    "NaN",
    "-Infinity",
    '{"a": 1, "a": 2}',
    "",
    "{",
    "nul",
    '"\\ud800',
    "[1,]",
)
