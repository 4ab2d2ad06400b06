"""Makes the pictures and the example design in docs/samples: `python -m tests.samples`."""

import math
import tempfile
import zlib
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path

import pypdfium2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image

from common.codes import CodeSigner
from deploy import design_check
from deploy.sample import sample_letter
from deploy.specimen import make_specimen_chain
from workers.sealing import Design, Placement, Signer, Stamp, seal
from workers.sealing.drawing.lettering import Area

FOLDER = Path(__file__).parents[1] / "docs" / "samples"
# The address of the examples, as long as real ones are.
PUBLIC_URL = "https://verifikasi.example.go.id"
# The key of docs/qr.md: published, and therefore worth nothing.
EXAMPLE_KEY = Ed25519PrivateKey.from_private_bytes(b"An example key, known to anyone.")
SERIAL = "TVKK97SNY82ZHG2H2DWCRY"
DAY = date(2026, 11, 24)
# Width and height of the example design, in points, and where its fields are.
DESIGN_SIZE = (100, 100)
DESIGN_FIELDS = {
    "serial": (22, 4, 96, 8.5),
    "qr": (21, 11, 97, 87),
    "date": (62, 89, 96, 93),
    "face_value": (22, 89, 56, 94),
}


def example_stamp(*, specimen: bool = True, document_sha256: bytes = bytes(32)) -> Stamp:
    """Return a stamp with a code as real ones are."""
    signer = CodeSigner(EXAMPLE_KEY, public_url=PUBLIC_URL)
    return Stamp(
        serial=SERIAL,
        qr_text=signer.text(serial=SERIAL, day=DAY, document_sha256=document_sha256),
        face_value=10_000,
        date=DAY,
        specimen=specimen,
        placement=Placement(position="bottom-right"),
    )


def example_design() -> bytes:
    """Return an invented design: a rosette and plain words, no emblem, calibrated colours only."""
    colour = b"[/CalRGB<</WhitePoint[0.9505 1 1.089]/Gamma[2.2 2.2 2.2]>>]"
    width, height = DESIGN_SIZE
    petals = []
    for turn in range(24):
        angle = math.tau * turn / 24
        x, y = 50 + 38 * math.cos(angle), 50 + 38 * math.sin(angle)
        petals.append(b"q 1 0 0 1 %.2f %.2f cm /Ring Do Q" % (x, y))
    content = b"\n".join(
        (
            b"/C cs /C CS 1 J 1 j 0.97 0.98 0.93 sc 0 0 %d %d re f" % DESIGN_SIZE,
            b"0.1 0.4 0.35 SC 0.8 w 1.5 1.5 %d %d re S" % (width - 3, height - 3),
            *petals,
            Area(22, 94.6, 74, 2.8).line("PENERBIT CONTOH - BUKAN METERAI SAH", b"0.1 0.4 0.35"),
        )
    )
    k = 8 * 0.5523
    ring = (
        b"/C CS 0.35 0.6 0.5 SC 0.25 w 8 0 m 8 %.3f %.3f 8 0 8 c -%.3f 8 -8 %.3f -8 0 c"
        b" -8 -%.3f -%.3f -8 0 -8 c %.3f -8 8 -%.3f 8 0 c S" % ((k,) * 8)
    )
    spaces = b"/ColorSpace<</C 5 0 R>>"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[%s]>>>>"
        % b" ".join(b"%d 0 R" % (7 + n) for n in range(len(DESIGN_FIELDS))),
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 %d %d]/Contents 4 0 R/Annots[%s]"
        b"/Resources<<%s/XObject<</Ring 6 0 R>>>>>>"
        % (*DESIGN_SIZE, b" ".join(b"%d 0 R" % (7 + n) for n in range(len(DESIGN_FIELDS))), spaces),
        _stream(b"", content),
        colour,
        _stream(b"/Type/XObject/Subtype/Form/BBox[-9 -9 9 9]/Resources<<%s>>" % spaces, ring),
        *(
            b"<</Type/Annot/Subtype/Widget/FT/Tx/T(%s)/Rect[%g %g %g %g]>>"
            % (name.encode(), *place)
            for name, place in DESIGN_FIELDS.items()
        ),
    ]
    out, offsets = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"), []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(out)


def _stream(entries: bytes, content: bytes) -> bytes:
    packed = zlib.compress(content, 9)
    return b"<<%s/Filter/FlateDecode/Length %d>>stream\n%s\nendstream" % (
        entries,
        len(packed),
        packed,
    )


def _rendered(document: bytes, dpi: int) -> Image.Image:
    pdf = pypdfium2.PdfDocument(document)
    pdf.init_forms()
    picture: Image.Image = pdf[0].render(scale=dpi / 72).to_pil()
    return picture.convert("RGB")


def _save(picture: Image.Image, name: str, dpi: int) -> None:
    out = BytesIO()
    picture.quantize(64).save(out, "PNG", optimize=True, dpi=(dpi, dpi))
    (FOLDER / name).write_bytes(out.getvalue())


def main() -> None:
    """Write the samples."""
    with tempfile.TemporaryDirectory() as folder:
        chain = make_specimen_chain(Path(folder) / "chain")
        signer = Signer.from_pem(chain.signer_key.read_bytes(), chain.chain.read_bytes())
    at = datetime(2026, 11, 24, 5, 30, tzinfo=UTC)
    stamped = seal(sample_letter(), [example_stamp()], signer=signer, at=at, reason=f"[{SERIAL}]")
    _save(_rendered(stamped.bytes, 80), "letter.png", 80)
    close = _rendered(stamped.bytes, 300)
    left, bottom, right, top = (side * 300 / 72 for side in stamped.boxes[0].rectangle)
    around = 12
    frame = (
        left - around,
        close.height - top - around,
        right + around,
        close.height - bottom + around,
    )
    _save(close.crop(frame), "stamp.png", 300)
    (FOLDER / "design.pdf").write_bytes(example_design())
    shown = design_check.picture(Design.load(example_design()), public_url=PUBLIC_URL, dpi=300)
    _save(Image.open(BytesIO(shown)), "design.png", 300)


if __name__ == "__main__":
    main()
