"""Sample documents of our own making: a letter for the demo, and letters of any size for benches."""

import os
import zlib

_LETTER = (
    (72, 760, "/B 15", "SURAT LAMARAN (CONTOH)"),
    (72, 738, "/R 9", "Dokumen contoh untuk uji coba - sample document for trying Stampede"),
    (72, 700, "/R 11", "Kepada Yth. Panitia Seleksi"),
    (72, 684, "/R 11", "di tempat"),
    (72, 650, "/R 11", "Dengan hormat,"),
    (
        72,
        626,
        "/R 11",
        "Yang bertanda tangan di bawah ini mengajukan lamaran untuk mengikuti seleksi",
    ),
    (72, 610, "/R 11", "calon pegawai. Sebagai bahan pertimbangan, bersama surat ini dilampirkan"),
    (72, 594, "/R 11", "berkas yang disyaratkan."),
    (72, 566, "/R 11", "Demikian surat ini dibuat dengan sebenarnya dan penuh tanggung jawab."),
    (72, 538, "/R 11", "Atas perhatian Bapak/Ibu, diucapkan terima kasih."),
    (360, 480, "/R 11", "Hormat kami,"),
    (360, 380, "/R 11", "(nama pelamar)"),
    (72, 60, "/R 8", "Contoh ini dibuat oleh Stampede dan tidak memuat data pribadi siapa pun."),
)


def blank_page(width: float, height: float) -> bytes:
    """Return a page with nothing on it, in points."""
    return _pdf(b"", [], width=width, height=height)


def sample_letter() -> bytes:
    """Return a letter of one A4 page, about 2 KB, that names no person."""
    return _pdf(_letter_content(), [])


def sample_of(size: int) -> bytes:
    """Return the same letter with a grey image that cannot be compressed, `size` bytes or little more.

    Stands in for a scan: its bytes are noise, so that nothing about its speed is flattery.
    """
    side = max(8, int((max(0, size - len(sample_letter()))) ** 0.5))
    noise = zlib.compress(os.urandom(side * side), 0)
    image = (
        b"<</Type/XObject/Subtype/Image/Width %d/Height %d/ColorSpace/DeviceGray"
        b"/BitsPerComponent 8/Filter/FlateDecode/Length %d>>stream\n%s\nendstream"
    ) % (side, side, len(noise), noise)
    return _pdf(_letter_content() + b"\nq 120 0 0 120 72 400 cm /Im Do Q", [image])


def _letter_content() -> bytes:
    lines = [f"BT {font} Tf {x} {y} Td ({_escaped(line)}) Tj ET" for x, y, font, line in _LETTER]
    return "\n".join((*lines, "0.6 w 72 730 m 523 730 l S")).encode("ascii")


def _escaped(line: str) -> str:
    return line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")


def _pdf(content: bytes, extra: list[bytes], *, width: float = 595, height: float = 842) -> bytes:
    packed = zlib.compress(content)
    image = b"/XObject<</Im 7 0 R>>" if extra else b""
    font = b"<</Type/Font/Subtype/Type1/BaseFont/%s/Encoding/WinAnsiEncoding>>"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R/Lang(id)>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 %g %g]/Contents 4 0 R"
        b"/Resources<</Font<</R 5 0 R/B 6 0 R>>%s>>>>" % (width, height, image),
        b"<</Filter/FlateDecode/Length %d>>stream\n%s\nendstream" % (len(packed), packed),
        font % b"Helvetica",
        font % b"Helvetica-Bold",
        *extra,
    ]
    out = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        start,
    )
    return bytes(out)
