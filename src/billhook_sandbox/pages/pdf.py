"""Writes a page of text and lines as a PDF, with the fonts that every viewer has."""

from typing import Literal

Align = Literal["left", "right"]
PAGE_WIDTH, PAGE_HEIGHT = 595, 842
FONTS = {"regular": "Helvetica", "bold": "Helvetica-Bold"}
# Widths of Helvetica in thousandths, of the characters in amounts, which are aligned to the right.
NARROW = {" ": 278, ",": 278, ".": 278, "-": 333, "I": 278, "J": 500, "M": 833}
WIDE = 667
DIGIT = 556


class PdfPage:
    """Positions are in points, from the top left corner."""

    def __init__(self) -> None:
        self.drawn: list[bytes] = []

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: int = 10,
        *,
        bold: bool = False,
        align: Align = "left",
    ) -> None:
        if align == "right":
            x -= width_of(text, size)
        font = "F2" if bold else "F1"
        start = f"BT /{font} {size} Tf {x:.1f} {PAGE_HEIGHT - y:.1f} Td (".encode()
        self.drawn.append(start + escaped(text) + b") Tj ET")

    def line(self, left: float, right: float, y: float) -> None:
        height = PAGE_HEIGHT - y
        self.drawn.append(f"0.8 G {left} {height} m {right} {height} l S".encode())

    def document(self, title: str) -> bytes:
        content = b"\n".join(self.drawn)
        font = "<< /Type /Font /Subtype /Type1 /BaseFont /{} /Encoding /WinAnsiEncoding >>"
        objects = [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {PAGE_WIDTH} {PAGE_HEIGHT}] "
            "/Resources << /Font << /F1 4 0 R /F2 5 0 R >> >> /Contents 6 0 R >>".encode(),
            font.format(FONTS["regular"]).encode(),
            font.format(FONTS["bold"]).encode(),
            b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
            b"<< /Title (" + escaped(title) + b") >>",
        ]
        return file_of(objects)


def file_of(objects: list[bytes]) -> bytes:
    """The numbered objects, the table of their positions, and the trailer."""
    body, positions = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        positions.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    count = len(objects) + 1
    table = b"".join(b"%010d 00000 n \n" % position for position in positions)
    trailer = b"trailer\n<< /Size %d /Root 1 0 R /Info %d 0 R >>\n" % (count, len(objects))
    table = b"xref\n0 %d\n0000000000 65535 f \n" % count + table
    return body + table + trailer + b"startxref\n%d\n%%%%EOF\n" % len(body)


def escaped(text: str) -> bytes:
    """Characters that the fonts do not have become question marks."""
    encoded = text.encode("cp1252", errors="replace")
    for special in (b"\\", b"(", b")"):
        encoded = encoded.replace(special, b"\\" + special)
    return encoded


def width_of(text: str, size: int) -> float:
    letters = (NARROW.get(each, WIDE if each.isupper() else DIGIT) for each in text)
    return sum(letters) * size / 1000
