"""The one answer about a file, from what is true of its signatures and serials."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from common.partners import Mode
from common.serials import PublicSerial
from common.verdicts import (
    ADVICE,
    CHANGES,
    HEADLINES,
    Changes,
    CheckedSignature,
    KnownSerial,
    Verdict,
    is_good,
    judge,
    know,
)

SERIAL = "SVKK97SNY82ZHG2H2DWCRY"
STAMP = CheckedSignature(
    field="Stampede",
    intact=True,
    trusted=True,
    whole_file=True,
    level="B-B",
    serial=SERIAL,
    serials=[SERIAL],
    signer="Common Name: The issuer",
    signed_at="2026-11-24T05:30:00+00:00",
    changed_after=Changes.NONE,
    changes_allowed=True,
    fault=None,
)
# A signature of the document's author, whom we do not know.
AUTHOR = replace(STAMP, field="Author", trusted=False, serial=None, serials=[], signer="An author")
AFFIXED = KnownSerial(
    serial=SERIAL,
    state="affixed",
    mode=Mode.LIVE,
    affixed_at=datetime(2026, 11, 24, tzinfo=UTC),
    is_this_file=True,
)


def verdict(
    *signatures: CheckedSignature, known: KnownSerial = AFFIXED, expected: str | None = None
) -> Verdict:
    return judge(signatures, {SERIAL: known}, expected=expected)


def test_a_live_stamp_on_the_very_file_is_the_only_green_one() -> None:
    assert verdict(STAMP, expected=SERIAL) is Verdict.STAMPED
    assert {v for v in Verdict if v.colour == "green"} == {Verdict.STAMPED}


def test_an_author_whom_we_do_not_know_does_not_spoil_the_stamp_above() -> None:
    author = replace(AUTHOR, whole_file=False, changed_after=Changes.FORM_FILLING)
    assert verdict(author, STAMP) is Verdict.STAMPED
    assert not is_good([author, STAMP]), "but not everything in it is vouched for"


def test_a_live_serial_of_the_built_in_design_is_a_specimen_whoever_signed_it() -> None:
    assert verdict(STAMP, known=replace(AFFIXED, specimen=True)) is Verdict.SPECIMEN


@pytest.mark.parametrize(
    "known",
    [replace(AFFIXED, mode=Mode.TEST), replace(AFFIXED, mode=Mode.TEST, is_this_file=False)],
)
def test_a_test_serial_is_a_specimen_and_never_green(known: KnownSerial) -> None:
    assert verdict(STAMP, known=known) is Verdict.SPECIMEN
    assert Verdict.SPECIMEN.colour == "amber"


def test_a_signer_that_calls_itself_a_specimen_is_one_also_with_a_live_serial() -> None:
    specimen = replace(STAMP, signer="Common Name: Stampede SPECIMEN Stamp")
    assert verdict(specimen) is Verdict.SPECIMEN


def test_anybody_can_write_our_serial_into_a_signature_of_their_own() -> None:
    forged = replace(STAMP, trusted=False)
    assert verdict(forged, known=replace(AFFIXED, is_this_file=False)) is Verdict.FOREIGN
    assert Verdict.FOREIGN.colour == "red"


def test_the_very_file_that_we_handed_out_stays_genuine_when_its_certificate_has_ended() -> None:
    ended = replace(STAMP, trusted=False)
    assert verdict(ended) is Verdict.STAMPED
    assert not is_good([ended]), "without our records nobody can tell"


def test_a_trusted_signature_without_a_serial_is_no_stamp() -> None:
    assert verdict(replace(STAMP, serial=None, serials=[])) is Verdict.FOREIGN


@pytest.mark.parametrize(
    "broken",
    [
        replace(STAMP, intact=False),
        replace(STAMP, changed_after=Changes.OTHER, changes_allowed=False),
        replace(STAMP, changed_after=Changes.UNKNOWN, changes_allowed=False),
    ],
)
def test_what_no_longer_holds_is_red_whatever_else_is_true(broken: CheckedSignature) -> None:
    assert verdict(broken, STAMP) is Verdict.CHANGED
    assert not is_good([broken, STAMP])
    assert Verdict.CHANGED.colour == "red"


def test_another_serial_than_the_one_asked_for_is_said_so() -> None:
    assert verdict(STAMP, expected="S" * 22) is Verdict.SERIAL_DIFFERS


def test_the_serials_state_has_the_last_word() -> None:
    never = know(SERIAL, None, sha256=b"")
    assert verdict(STAMP, known=never) is Verdict.SERIAL_UNKNOWN
    for state in ("reserved", "void"):
        known = know(SERIAL, PublicSerial(SERIAL, Mode.LIVE, state, None, b"x"), sha256=b"x")
        assert not known.is_this_file
        assert verdict(STAMP, known=known) is Verdict.SERIAL_NOT_AFFIXED


def test_a_genuine_file_that_grew_is_amber() -> None:
    grown = replace(STAMP, whole_file=False, changed_after=Changes.FORM_FILLING)
    known = replace(AFFIXED, is_this_file=False)
    assert verdict(grown, AUTHOR, known=known) is Verdict.EXTENDED
    assert Verdict.EXTENDED.colour == "amber"


def test_proof_for_later_years_does_not_count_as_a_change() -> None:
    archived = replace(STAMP, whole_file=False, changed_after=Changes.LTA_UPDATES)
    assert is_good([archived])
    assert not is_good([replace(archived, changed_after=Changes.FORM_FILLING)])


def test_a_kind_of_signature_that_is_not_checked_says_nothing_about_the_stamp() -> None:
    old = replace(AUTHOR, intact=False, changes_allowed=False, level="unsupported", fault="old")
    assert verdict(old, STAMP) is Verdict.STAMPED
    assert verdict(old) is Verdict.FOREIGN
    assert not is_good([old, STAMP])


def test_nothing_signed_is_nothing_good() -> None:
    assert verdict() is Verdict.UNSIGNED
    assert not is_good([])


def test_every_verdict_and_every_change_has_words_in_both_languages() -> None:
    assert set(HEADLINES) == set(ADVICE) == set(Verdict)
    assert set(CHANGES) == set(Changes)
    for words in (*HEADLINES.values(), *ADVICE.values(), *CHANGES.values()):
        assert words.said("id") != words.said("en")
