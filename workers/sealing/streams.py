"""What a stream holds, decoded and bounded."""

import zlib

from pypdf.generic import StreamObject

from workers.sealing.errors import SealingError

# More than the object index of any real document takes.
MAX_DECODED = 64 * 1024 * 1024


def decoded(stream: StreamObject, what: str) -> bytes:
    """Return a stream's content.

    pypdf makes do with deflated data that breaks off; other readers do not, so neither do we.

    Raises:
        SealingError: `document_unreadable`, `document_unprocessable` for a decompression bomb.
    """
    raw = stream._data
    if stream.get("/Filter") in ("/FlateDecode", ["/FlateDecode"]):
        inflater = zlib.decompressobj()
        try:
            plain = inflater.decompress(raw, MAX_DECODED)
        except zlib.error as error:
            raise SealingError("document_unreadable", reason=what) from error
        if inflater.unconsumed_tail:
            raise SealingError("document_unprocessable", reason=what)
        if not inflater.eof:
            raise SealingError("document_unreadable", reason=what)
        if "/DecodeParms" not in stream:
            return plain
    try:
        return stream.get_data()
    except Exception as error:
        # pypdf's filters raise whatever the damage leads to.
        raise SealingError("document_unreadable", reason=what) from error
