"""Recorded bytes of stock nodes (tests/captures/*/README.md says which)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

CAPTURES = Path(__file__).parent.parent / "captures"


def captured(name: str) -> bytes:
    return (CAPTURES / name).read_bytes()


def captured_body(name: str) -> bytes:
    """The body of a recorded HTTP/1.1 message that is not chunked."""
    return captured(name).partition(b"\r\n\r\n")[2]


@dataclass(frozen=True)
class Piece:
    """What one side of a recorded connection sent at once.

    Attributes:
        asked: by the one who opened the connection.
        data: as it was on the wire; a note in brackets where it was no bytes.
    """

    asked: bool
    data: bytes

    def messages(self) -> list[bytes]:
        """The HTTP/1.1 messages in it, each with the body that its head tells of."""
        found, rest = [], self.data
        while b"\r\n\r\n" in rest:
            head, _, after = rest.partition(b"\r\n\r\n")
            told = re.search(rb"(?i)^content-length: *(\d+)", head, re.M)
            length = int(told[1]) if told else len(after) if b"chunked" in head else 0
            found.append(head + b"\r\n\r\n" + after[:length])
            rest = after[length:]
        return found


def transcript(name: str) -> list[Piece]:
    """A recorded connection in the order of its pieces.

    The files write ``\\r\\n`` out at the end of a line, and other bytes that are no text
    as ``\\xNN``; a real line end behind a written one is layout.
    """
    text = (CAPTURES / name).read_text(encoding="latin-1")
    pieces = []
    for part in re.split(r"^(?=>>> |<<< |--- )", text, flags=re.M):
        head, _, body = part.partition("\n")
        if not head.startswith((">>> ", "<<< ")):
            continue
        body = body.replace("\\r\\n\n", "\r\n")
        data = re.sub(r"\\x([0-9a-f]{2})", lambda m: chr(int(m[1], 16)), body).encode("latin-1")
        if told := re.search(r"(\d+) bytes$", head):
            data = data[: int(told[1])]
        pieces.append(Piece(head.startswith(">>> "), data))
    return pieces
