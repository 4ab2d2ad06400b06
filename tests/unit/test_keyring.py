"""The ring of stamping keys: which one signs, rotation without a restart, and the end in sight."""

import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12
from prometheus_client import REGISTRY
from pydantic import ValidationError
from structlog.testing import capture_logs

from common.settings import WebSettings, WorkerSettings
from tests.chains import DAY, NOW, issue, key_of, pem
from tests.softhsm import MODULE, PIN, SoftToken
from workers.keyring import LOOK_EVERY, Keyring, NoValidKeyError, State, choose, state

LATER = NOW + LOOK_EVERY


class Keys:
    """A folder with a list of keys, written as an operator would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.list = folder / "keys.toml"
        self.ring = Keyring(settings(signing_keys_file=self.list))

    def add_pem(self, name: str, *, kind: str = "RSA-2048", more: str = "", **when: Any) -> None:
        self.write_pem(name, kind=kind, **when)
        self.append(f"""
            [[key]]
            name = "{name}"
            source = "pem"
            key = "{name}.key.pem"
            chain = "{name}.chain.pem"
            {more}
            """)

    def write_pem(self, name: str, *, kind: str = "RSA-2048", **when: Any) -> None:
        key: Any = key_of(kind)
        self.write(f"{name}.key.pem", pem(key))
        self.write(f"{name}.chain.pem", issue(key.public_key(), name=name, **when).chain_pem)

    def append(self, text: str) -> None:
        before = self.list.read_text() if self.list.exists() else ""
        self.write(self.list.name, (before + text).encode())

    def write(self, name: str, content: bytes) -> None:
        """Write a file as it appears on disks: whole, and with a time and place of its own."""
        building = self.folder / ".building"
        building.write_bytes(content)
        building.replace(self.folder / name)

    def signs(self, now: datetime = NOW) -> str:
        leaf = self.ring.signer(now).certificates[0]
        return leaf.subject.rfc4514_string().removeprefix("CN=")


def settings(**fields: Any) -> WorkerSettings:
    return WorkerSettings(link_key="k" * 32, code_key_file="code.key.pem", **fields)


@pytest.fixture(autouse=True)
def _nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a test says is set: other tests of the same run have servers, and keys for them."""
    for name in [name for name in os.environ if name.startswith("STAMPEDE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    made = Keys(tmp_path)
    yield made
    made.ring.close()


def test_of_the_valid_keys_the_one_that_began_last_signs(keys: Keys) -> None:
    keys.add_pem("old", since=NOW - 300 * DAY)
    keys.add_pem("new", since=NOW - DAY)
    keys.add_pem("next", since=NOW + DAY)
    keys.add_pem("gone", since=NOW - 2 * DAY, until=NOW - DAY)
    assert keys.signs() == "new"
    found = keys.ring.keys(NOW)
    assert {key.name: state(key, found, NOW) for key in found} == {
        "old": State.SPARE,
        "new": State.SIGNS,
        "next": State.WAITS,
        "gone": State.ENDED,
    }
    assert keys.signs(NOW + 2 * DAY) == "next"


def test_from_and_until_narrow_what_the_certificate_allows(keys: Keys) -> None:
    keys.add_pem("a", since=NOW - 9 * DAY)
    keys.add_pem("b", since=NOW - 5 * DAY, more=f"from = {(NOW + DAY).isoformat()}")
    keys.add_pem("c", since=NOW - 5 * DAY, more=f'until = "{(NOW - DAY).isoformat()}"')
    keys.add_pem("d", since=NOW + 5 * DAY, more=f"from = {(NOW - DAY).isoformat()}")
    assert keys.signs() == "a"
    assert keys.signs(NOW + DAY) == "b"
    assert keys.signs(NOW + 5 * DAY) == "d"


def test_a_chain_ends_with_the_first_of_its_certificates(keys: Keys) -> None:
    keys.add_pem("long", since=NOW - 4000 * DAY, until=NOW + 5000 * DAY)
    (key,) = keys.ring.keys(NOW)
    assert (key.since, key.until) == (NOW - 3650 * DAY, NOW + 3650 * DAY)


def test_a_new_key_is_taken_up_without_a_restart(keys: Keys) -> None:
    keys.add_pem("old", since=NOW - 300 * DAY)
    assert keys.signs() == "old"
    keys.add_pem("new", since=NOW - DAY)
    assert keys.signs(NOW + LOOK_EVERY / 2) == "old"
    assert keys.signs(LATER) == "new"


def test_one_key_in_place_is_taken_up_too(keys: Keys) -> None:
    keys.write_pem("one")
    ring = Keyring(
        settings(
            signing_key_file=keys.folder / "one.key.pem",
            signing_chain_file=keys.folder / "one.chain.pem",
        )
    )
    assert ring.signer(NOW).algorithm.name == "RSA-2048"
    keys.write_pem("one", kind="ECDSA P-256")
    assert ring.signer(LATER).algorithm.name == "ECDSA P-256"
    assert [key.name for key in ring.keys(LATER)] == ["default"]


def test_a_key_is_read_once(keys: Keys) -> None:
    keys.add_pem("old")
    first = keys.ring.signer(NOW)
    keys.add_pem("other", since=NOW - 300 * DAY)
    assert keys.ring.signer(LATER) is first
    assert len(keys.ring.keys(LATER)) == 2


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ("[[key", "is not TOML"),
        ("[[key]]\nname = 'x'\nsource = 'floppy'", "key.1: Input tag 'floppy'"),
        ("[[key]]\nname = 'x'\nsource = 'pem'\nkey = 'k'", "key.1.pem.chain: Field required"),
        (
            "[[key]]\nname='x'\nsource='pkcs11'\nmodule='m'\ntoken='t'\npin_file='p'",
            "'key_label' or 'key_id'",
        ),
        ("[[key]]\nname = 'x'\nsource = 'pem'\nkey = 'k'\nchain = 'c'\nsecret = 1", "Extra inputs"),
        (
            "[[key]]\nname='x'\nsource='pem'\nkey='k'\nchain='c'\nfrom=2026-01-01T00:00:00",
            "timezone",
        ),
        (
            "[[key]]\nname='x'\nsource='pem'\nkey='k'\nchain='c'\nfrom=2026-01-02T00:00:00Z\n"
            "until=2026-01-01T00:00:00Z",
            "'from' must be before 'until'",
        ),
        ("[[key]]\nname='good'\nsource='pem'\nkey='k'\nchain='c'", "two keys are named 'good'"),
    ],
)
def test_a_list_that_cannot_be_read_leaves_the_keys_from_before(
    keys: Keys, spoil: str, says: str
) -> None:
    keys.add_pem("good")
    assert keys.signs() == "good"
    keys.append(f"\n{spoil}\n")
    with capture_logs() as logs:
        assert keys.signs(LATER) == "good"
        assert keys.signs(LATER + LOOK_EVERY) == "good"
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert says in line["why"]
    assert says in keys.ring.problems()[0]


def test_a_key_that_was_spoilt_in_place_stays_as_it_was_and_the_others_are_used(
    keys: Keys,
) -> None:
    keys.add_pem("good", since=NOW - DAY)
    keys.add_pem("other", since=NOW - 2 * DAY)
    assert keys.signs() == "good"
    keys.write("good.key.pem", b"half a key")
    with capture_logs() as logs:
        assert keys.signs(LATER) == "good"
        keys.signs(LATER + LOOK_EVERY)
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert line["why"].startswith("key 'good': the key cannot be read")
    # A process that starts now has only the other one.
    fresh = Keyring(settings(signing_keys_file=keys.list))
    assert [key.name for key in fresh.keys(NOW)] == ["other"]
    keys.write_pem("good", since=NOW - DAY)
    assert keys.signs(LATER + 2 * LOOK_EVERY) == "good"
    assert keys.ring.problems() == []


def test_a_key_that_was_taken_off_the_list_signs_no_more(keys: Keys) -> None:
    keys.add_pem("old", since=NOW - 300 * DAY)
    before = keys.list.read_bytes()
    keys.add_pem("compromised", since=NOW - DAY)
    assert keys.signs() == "compromised"
    keys.write("keys.toml", before)
    assert keys.signs(LATER) == "old"


def test_no_valid_key_is_said_with_the_reasons(keys: Keys) -> None:
    with pytest.raises(NoValidKeyError, match=r"cannot read .*keys.toml: No such file"):
        keys.ring.signer(NOW)
    keys.add_pem("gone", since=NOW - 9 * DAY, until=NOW - DAY)
    keys.add_pem("next", since=NOW + DAY)
    with pytest.raises(NoValidKeyError, match=r"'gone' ended on 2026-11-23.*'next' begins on"):
        keys.ring.signer(LATER)
    assert choose([], NOW) is None


def test_a_clock_that_was_set_back_does_not_stop_the_looking(keys: Keys) -> None:
    keys.add_pem("old", since=NOW - 300 * DAY)
    assert keys.signs(NOW + 300 * DAY) == "old"
    keys.add_pem("new", since=NOW - DAY)
    assert keys.signs(NOW) == "new"


def expires(name: str) -> float | None:
    return REGISTRY.get_sample_value("stampede_signing_key_expires_seconds", {"key": name})


def test_the_end_of_a_key_is_a_metric_and_a_line_a_day_a_month_ahead(keys: Keys) -> None:
    keys.add_pem("ending", until=NOW + 31 * DAY)
    with capture_logs() as logs:
        keys.signs()
        assert expires("ending") == 31 * 86400
        assert not [line for line in logs if line["log_level"] == "warning"]
        for hour in range(24 * 3):
            keys.signs(NOW + 2 * DAY + timedelta(hours=hour))
    warnings = [line for line in logs if line["log_level"] == "warning"]
    # Three days that begin at half past five touch four dates.
    assert [line["days"] for line in warnings] == [29, 28, 27, 26]
    assert {line["key"] for line in warnings} == {"ending"}
    assert expires("ending") == timedelta(days=26, hours=1).total_seconds()


def test_a_key_that_left_the_list_leaves_the_metric(keys: Keys) -> None:
    keys.add_pem("left", until=NOW + DAY)
    keys.signs()
    assert expires("left") == 86400
    keys.write("keys.toml", b"")
    keys.add_pem("right")
    keys.signs(LATER)
    left = expires("left")
    assert left is not None
    assert left != left


def test_a_pkcs12_file_is_opened_with_the_passphrase_of_its_file(keys: Keys) -> None:
    key: Any = key_of("ECDSA P-384")
    issued = issue(key.public_key(), name="held")
    keys.write(
        "held.p12",
        pkcs12.serialize_key_and_certificates(
            b"held", key, issued.leaf, [issued.root], BestAvailableEncryption(b"open sesame")
        ),
    )
    keys.write("held.passphrase", b"open sesame\n")
    keys.append("""
        [[key]]
        name = "held"
        source = "pkcs12"
        file = "held.p12"
        passphrase_file = "held.passphrase"
        """)
    assert keys.signs() == "held"
    facts = keys.ring.keys(NOW)[0].as_json(State.SIGNS, NOW)
    assert facts["algorithm"] == "ECDSA P-384"
    assert "open sesame" not in str(facts)


def test_pss_is_chosen_for_a_key_in_the_list(keys: Keys) -> None:
    keys.add_pem("pss", more="pss = true")
    assert keys.ring.signer(NOW).algorithm.name == "RSA-PSS-2048"


@pytest.mark.system
def test_a_token_that_is_away_leaves_the_other_keys_and_is_taken_up_when_it_is_back(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    key: Any = key_of("RSA-2048")
    token = SoftToken(keys.folder)
    monkeypatch.setenv("SOFTHSM2_CONF", str(token.configuration))
    token.store(key, label="2026", key_id="01")
    keys.write("pin", PIN.encode() + b"\n")
    keys.write("hsm.pem", issue(key.public_key(), name="hsm").chain_pem)
    keys.append(f"""
        [[key]]
        name = "hsm"
        source = "pkcs11"
        module = "{MODULE}"
        token = "stamp"
        key_label = "2026"
        key_id = "01"
        pin_file = "pin"
        chain = "hsm.pem"
        """)
    keys.add_pem("spare", since=NOW - 9 * DAY)
    token.take_away()
    assert keys.signs() == "spare"
    assert keys.ring.problems() == ["key 'hsm': there is no token 'stamp'; is it connected?"]
    token.bring_back()
    assert keys.signs(LATER) == "hsm"
    assert keys.ring.problems() == []


def test_a_key_is_named_in_one_way_only(tmp_path: Path) -> None:
    one = {"signing_key_file": tmp_path / "k", "signing_chain_file": tmp_path / "c"}
    for fields in ({}, {"signing_key_file": tmp_path / "k"}, one | {"signing_keys_file": tmp_path}):
        with pytest.raises(ValidationError, match="is named either by"):
            settings(**fields)
    assert settings(**one).signing_keys_file is None
    assert settings(signing_keys_file=tmp_path / "keys.toml").signing_key_file is None


def test_the_front_end_cannot_be_given_a_stamping_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WorkerSettings.model_fields.keys() - WebSettings.model_fields.keys():
        monkeypatch.setenv(f"STAMPEDE_{name.upper()}", "/keys/of/the/worker")
    monkeypatch.setenv("STAMPEDE_ENV_FILE", os.devnull)
    monkeypatch.setenv("STAMPEDE_LINK_KEY", "k" * 32)
    monkeypatch.setenv("STAMPEDE_RECEIPT_KEY_FILE", "/receipt.key.pem")
    monkeypatch.setenv("STAMPEDE_CODE_PUBLIC_KEYS_FILE", "/code.pub.pem")
    loaded = WebSettings.load()
    assert not [name for name in WebSettings.model_fields if "signing" in name]
    assert "/keys/of/the/worker" not in repr(loaded)
