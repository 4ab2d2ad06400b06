"""Ways to damage a document that lead further into a reader than random bytes do."""

import re
from collections.abc import Callable, Sequence
from random import Random

Mutation = Callable[[Random, bytes, Sequence[bytes]], bytes]

_NUMBER = re.compile(rb"\d+")
_REFERENCE = re.compile(rb"(\d+) 0 R")
_TOKEN = re.compile(rb"/[A-Za-z]+|\d+ \d+ R|\d+|<<|>>|\[|\]|\([^()]{0,20}\)|[a-z]+")
_NUMBERS = (b"0", b"-1", b"1", b"65535", b"65536", b"2147483648", b"9999999999", b"1e9", b"0.5")
_WORDS = (b"obj", b"endobj", b"stream", b"endstream", b"xref", b"trailer", b"startxref", b"%%EOF")
# In so many first matches a place is looked for.
_CHOICE = 4000


def flip_bits(random: Random, document: bytes, _: Sequence[bytes]) -> bytes:
    """Flip one to eight bits."""
    out = bytearray(document)
    for _bit in range(random.randint(1, 8)):
        out[random.randrange(len(out))] ^= 1 << random.randrange(8)
    return bytes(out)


def swap_number(random: Random, document: bytes, _: Sequence[bytes]) -> bytes:
    """Put another number where one stands: an absurd one, a neighbour, or one from elsewhere."""
    places = _matches(_NUMBER, document)
    if not places:
        return document
    start, end = random.choice(places)
    near = b"%d" % max(0, int(document[start:end][:18]) + random.choice((-20, -1, 1, 20)))
    other = document[slice(*random.choice(places))]
    return document[:start] + random.choice((*_NUMBERS, near, other)) + document[end:]


def splice_token(random: Random, document: bytes, others: Sequence[bytes]) -> bytes:
    """Put a token of one document where one stands in another."""
    places, theirs = _matches(_TOKEN, document), random.choice(others)
    sources = _matches(_TOKEN, theirs)
    if not places or not sources:
        return document
    start, end = random.choice(places)
    return document[:start] + theirs[slice(*random.choice(sources))] + document[end:]


def splice_chunk(random: Random, document: bytes, others: Sequence[bytes]) -> bytes:
    """Put a piece of another document anywhere."""
    theirs, at = random.choice(others), random.randrange(len(document))
    start = random.randrange(len(theirs))
    piece = theirs[start : start + random.randint(1, 400)]
    return document[:at] + piece + document[at + random.choice((0, len(piece))) :]


def truncate(random: Random, document: bytes, _: Sequence[bytes]) -> bytes:
    """Cut the end off, or a piece out of the middle."""
    start = random.randrange(len(document))
    end = random.choice((len(document), min(len(document), start + random.randint(1, 300))))
    return document[:start] + document[end:]


def double_chunk(random: Random, document: bytes, _: Sequence[bytes]) -> bytes:
    """Repeat a piece, once or many times."""
    start = random.randrange(len(document))
    piece = document[start : start + random.randint(1, 300)]
    return document[:start] + piece * random.choice((2, 2, 3, 50)) + document[start:]


def point_elsewhere(random: Random, document: bytes, _: Sequence[bytes]) -> bytes:
    """Let a reference name another object: itself, a neighbour, or none."""
    places = _matches(_REFERENCE, document)
    if not places:
        return document
    start, end = random.choice(places)
    number = random.choice((0, random.randrange(40), 8_388_607, 99_999_999))
    return document[:start] + b"%d 0 R" % number + document[end:]


def misplace_word(random: Random, document: bytes, _: Sequence[bytes]) -> bytes:
    """Break a word that holds the file together, or put one where it means nothing."""
    word = random.choice(_WORDS)
    places = [m.span() for m in re.finditer(re.escape(word), document)][:_CHOICE]
    if places and random.random() < 0.5:
        start, end = random.choice(places)
        return document[:start] + document[start:end][1:] + document[end:]
    at = random.randrange(len(document))
    return document[:at] + b" " + word + b" " + document[at:]


MUTATIONS: tuple[Mutation, ...] = (
    flip_bits,
    swap_number,
    swap_number,
    splice_token,
    splice_chunk,
    truncate,
    double_chunk,
    point_elsewhere,
    misplace_word,
)


def mutate(random: Random, seeds: Sequence[bytes]) -> bytes:
    """Return one of the documents with one to four mutations."""
    document = random.choice(seeds)
    for _ in range(random.choice((1, 1, 2, 4))):
        document = random.choice(MUTATIONS)(random, document, seeds) or b"%PDF-"
    return document


def _matches(pattern: re.Pattern[bytes], document: bytes) -> list[tuple[int, int]]:
    """Return where some of the matches are."""
    found = []
    for match in pattern.finditer(document):
        found.append(match.span())
        if len(found) == _CHOICE:
            break
    return found
