"""What an authority answers: a right answer is taken, and nothing else is."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from asn1crypto import core, tsp
from rfc3161_client import TimeStampRequest

from tests.authorities import Pki
from workers.sealing.signing.timestamp import (
    TimestampError,
    Token,
    TokenTooLongError,
    attach,
    question,
    read_answer,
    room_for,
    signature_value,
)

VALUE = b"the value of a signature" * 10


def now() -> datetime:
    return datetime.now(UTC)


def read(pki: Pki, answer: bytes, asked: TimeStampRequest, **other: object) -> Token:
    facts: dict[str, object] = {"roots": [pki.certificate("root")], "now": now()}
    return read_answer(answer, asked, VALUE, **(facts | other))  # type: ignore[arg-type]


def altered(request: bytes, change: Callable[[tsp.TimeStampReq], None]) -> bytes:
    """Return a request that asks for something else than it was made for."""
    parsed = tsp.TimeStampReq.load(request)
    change(parsed)
    changed: bytes = parsed.dump(force=True)
    return changed


def other_nonce(request: tsp.TimeStampReq) -> None:
    request["nonce"] = core.Integer(4711)


def no_nonce(request: tsp.TimeStampReq) -> None:
    del request["nonce"]


def other_imprint(request: tsp.TimeStampReq) -> None:
    request["message_imprint"]["hashed_message"] = bytes(32)


def other_algorithm(request: tsp.TimeStampReq) -> None:
    request["message_imprint"]["hash_algorithm"] = {"algorithm": "sha3_256"}


@pytest.mark.parametrize("authority", ["tsa", "tsa2"])
def test_a_right_answer_is_taken(pki: Pki, authority: str) -> None:
    asked = question(VALUE)
    token = read(pki, pki.answer(asked.as_bytes(), authority), asked)
    assert abs(token.at - now()) < timedelta(minutes=1)
    assert token.certificates == (pki.certificate(authority), pki.certificate("root"))


def test_each_question_has_a_nonce_of_its_own_and_asks_for_certificates() -> None:
    first, second = question(VALUE), question(VALUE)
    assert first.nonce
    assert first.nonce != second.nonce
    assert first.cert_req
    assert first.message_imprint.message == hashlib.sha256(VALUE).digest()


@pytest.mark.parametrize("change", [other_nonce, no_nonce, other_imprint, other_algorithm])
def test_an_answer_to_another_question_is_refused(
    pki: Pki, change: Callable[[tsp.TimeStampReq], None]
) -> None:
    asked = question(VALUE)
    answer = pki.answer(altered(asked.as_bytes(), change))
    with pytest.raises(TimestampError):
        read(pki, answer, asked)


@pytest.mark.parametrize(
    ("authority", "why"),
    [
        ("tsa-expired", "expired"),
        ("tsa-no-usage", "purpose"),
        ("tsa-not-critical", "purpose"),
        ("stranger", "self-signed"),
    ],
)
def test_a_certificate_that_may_not_stamp_time_is_refused(
    pki: Pki, authority: str, why: str
) -> None:
    asked = question(VALUE)
    with pytest.raises(TimestampError, match=why):
        read(pki, pki.answer(asked.as_bytes(), authority), asked)


@pytest.mark.parametrize("apart", [timedelta(hours=-1), timedelta(hours=1)])
def test_a_token_of_another_hour_is_refused(pki: Pki, apart: timedelta) -> None:
    asked = question(VALUE)
    with pytest.raises(TimestampError, match="the token is of"):
        read(pki, pki.answer(asked.as_bytes()), asked, now=now() + apart)


def test_a_refusal_is_told_with_its_reason(pki: Pki) -> None:
    status = tsp.PKIStatusInfo({"status": "rejection", "status_string": ["no such policy"]})
    answer = b"\x30" + bytes([len(status.dump())]) + status.dump()
    with pytest.raises(TimestampError, match="refused with status 2: no such policy"):
        read(pki, answer, question(VALUE))


@pytest.mark.parametrize(
    "answer",
    [b"", b"no", b"<html>Bad gateway</html>", b"\x30\x80" * 5000, b"\x30\x84\xff\xff\xff\xff"],
    ids=["nothing", "a word", "a page", "nesting", "an absurd length"],
)
def test_garbage_is_refused(pki: Pki, answer: bytes) -> None:
    with pytest.raises(TimestampError):
        read(pki, answer, question(VALUE))


def test_an_answer_with_any_byte_changed_is_refused(pki: Pki) -> None:
    asked = question(VALUE)
    answer = pki.answer(asked.as_bytes())
    taken = []
    for position in range(len(answer)):
        spoiled = bytearray(answer)
        spoiled[position] ^= 0x55
        try:
            read(pki, bytes(spoiled), asked)
        except TimestampError:
            continue
        taken.append(position)
    assert taken == []


def test_an_answer_that_breaks_off_is_refused(pki: Pki) -> None:
    asked = question(VALUE)
    answer = pki.answer(asked.as_bytes())
    for length in range(0, len(answer), 50):
        with pytest.raises(TimestampError):
            read(pki, answer[:length], asked)


def test_a_token_needs_its_room(pki: Pki) -> None:
    # SEQUENCE { SEQUENCE { SEQUENCE { SET { SEQUENCE { OCTET STRING } } } } }, as CMS nests.
    bare = bytes.fromhex("300c300a3008310630040402abcd")
    assert signature_value(bare) == b"\xab\xcd"
    token = b"\x30\x82\x01\x00" + bytes(256)
    with pytest.raises(TokenTooLongError) as refusal:
        attach(bare, token, room=len(token))
    assert refusal.value.needed == room_for(len(token))
    longer = attach(bare, token, room=refusal.value.needed)
    assert token in longer
    with pytest.raises(ValueError, match="without unsigned attributes"):
        signature_value(longer)


@pytest.mark.parametrize("broken", [b"", b"\x30", b"\x30\x80", b"\x30\x05\x30\x09", bytes(40)])
def test_what_is_no_signature_gets_no_timestamp(broken: bytes) -> None:
    with pytest.raises(ValueError):
        signature_value(broken)
