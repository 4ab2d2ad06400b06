"""Jobs at a signature level: stamped, made to wait, sealed for now and upgraded later."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from werkzeug.wrappers import Request, Response

from common import documents, upgrades
from common.codes import CodeSigner
from common.database import Database
from common.documents import Documents
from common.jobs.records import JobRecord
from common.levels import Level
from common.pace import Pace
from common.settings import WorkerSettings
from tests.authorities import Pki, Unruly
from tests.service.test_job_states import (
    AtOnce,
    accept,
    assert_clean,
    balance,
    claim,
    events_of,
    finish,
    new_job,
    shown,
)
from tests.stack import Account
from workers.checking import check
from workers.keyring import Keyring
from workers.sealer import Sealer
from workers.stamping import AttemptEndedError, Stamper
from workers.upgrading import Upgrader


class Shop:
    """A stamp worker and an upgrader at one level, in this process."""

    def __init__(
        self, settings: WorkerSettings, db: Database, store: Documents, pace: Pace
    ) -> None:
        self.told: list[UUID] = []
        self.sealer = Sealer.from_settings(settings)
        self.stamper = Stamper(
            settings=settings,
            database=db,
            documents=store,
            pace=pace,
            keys=Keyring(settings),
            sealer=self.sealer,
            codes=CodeSigner.from_pem(
                settings.code_key_file.read_bytes(), public_url=settings.public_url
            ),
            design=None,
            tell=self.told.extend,
            random=AtOnce(),
        )
        self.upgrader = Upgrader(
            database=db,
            documents=store,
            timestamper=self.sealer.timestamper,
            tell=self.told.extend,
        )


Open = Callable[..., Shop]


@pytest.fixture
def open_shop(
    pki: Pki,
    worker_settings: WorkerSettings,
    db: Database,
    store: Documents,
    lane_pace: Pace,
    tmp_path: Path,
) -> Open:
    def open_shop(level: Level, policy: str, signer: str = "rsa") -> Shop:
        root = pki.file("root.crt.pem", pki.root_pem)
        chosen: dict[str, Any] = {
            "data_dir": tmp_path,
            "signing_key_file": pki.folder / "rsa.pem",
            "signing_chain_file": pki.file(f"{signer}-chain.pem", pki.pem(signer, "interm")),
            "signing_roots_file": root,
            "timestamp_roots_file": root,
            "timestamp_urls": (pki.authority(),),
            "signature_level": level,
            "signature_level_policy": policy,
        }
        return Shop(worker_settings.model_copy(update=chosen), db, store, lane_pace)

    return open_shop


@pytest.fixture
def submitted(db: Database, store: Documents, account: Account, letter: bytes) -> UUID:
    """A job whose letter is stored, in a lane that no worker serves."""
    job = new_job(account)
    facts = {"document_bytes": len(letter), "document_sha256": hashlib.sha256(letter).digest()}
    job = replace(job, **facts)  # type: ignore[arg-type]
    store.put(documents.original_key(job.id), letter)
    return accept(db, job)


def down(request: Request) -> Response:
    return Response(status=503)


def stored(store: Documents, job: JobRecord) -> bytes:
    """Return the result, having made sure that it is the one on record."""
    assert job.result_key is not None
    content = store.get(job.result_key)
    assert hashlib.sha256(content).digest() == job.result_sha256
    assert len(content) == job.result_bytes
    return content


def level_of(pki: Pki, content: bytes) -> str:
    checked = check(content, trust_roots_pem=pki.root_pem)
    assert checked.good
    return str(checked.signatures[-1].level)


def make_due(db: Database, job_id: UUID) -> None:
    with db.transaction() as connection:
        connection.execute(
            text("update jobs set upgrade_at = now() where id = :id and upgrade_at is not null"),
            {"id": job_id},
        )


def upgrade_is_due(db: Database, job_id: UUID) -> bool | None:
    """Say whether an upgrade is due now; None when none is wanted."""
    with db.transaction() as connection:
        due: bool | None = connection.execute(
            text("select upgrade_at <= now() from jobs where id = :id"), {"id": job_id}
        ).scalar_one()
    return due


@pytest.mark.parametrize("level", [Level.B_B, Level.B_T, Level.B_LT])
def test_a_job_is_stamped_at_the_level(
    level: Level,
    open_shop: Open,
    submitted: UUID,
    db: Database,
    store: Documents,
    pki: Pki,
    client: FlaskClient,
    account: Account,
) -> None:
    open_shop(level, "wait").stamper.stamp(submitted)
    job = shown(db, submitted)
    assert (job.state, job.signature_level) == ("stamped", level)
    assert level_of(pki, stored(store, job)) == level
    assert upgrade_is_due(db, submitted) is None
    facts = client.get(f"/v1/jobs/{submitted}", headers=account.live).json["stamped"]
    assert (facts["level"], facts["earlier_sha256"]) == (level, None)


def test_a_job_from_before_levels_were_recorded_is_b_b(
    open_shop: Open, submitted: UUID, db: Database
) -> None:
    open_shop(Level.B_B, "wait").stamper.stamp(submitted)
    with db.transaction() as connection:
        connection.execute(
            text("update jobs set signature_level = null where id = :id"), {"id": submitted}
        )
    assert shown(db, submitted).signature_level == "B-B"


def test_a_job_waits_for_an_authority_with_its_serial_and_is_stamped_then(
    open_shop: Open, submitted: UUID, db: Database, unruly: Unruly, account: Account
) -> None:
    unruly.misbehaves["/pki/tsa"] = down
    shop, serials = open_shop(Level.B_T, "wait"), shown(db, submitted).serials
    with pytest.raises(AttemptEndedError, match="LevelMissedError"):
        shop.stamper.stamp(submitted)
    job = shown(db, submitted)
    assert (job.state, job.attempt, job.serials) == ("queued", 1, serials)
    assert balance(db, account) == (99, 1, 0)
    unruly.misbehaves.clear()
    shop.stamper.stamp(submitted)
    job = shown(db, submitted)
    assert (job.state, job.signature_level, job.serials) == ("stamped", "B-T", serials)
    assert balance(db, account) == (99, 0, 1)
    assert_clean(db)


def test_a_revoked_key_stamps_nothing_and_the_job_waits(
    open_shop: Open, submitted: UUID, db: Database
) -> None:
    with pytest.raises(AttemptEndedError, match="SigningKeyRevokedError"):
        open_shop(Level.B_LT, "fall-back", "revoked").stamper.stamp(submitted)
    assert shown(db, submitted).state == "queued"
    open_shop(Level.B_LT, "fall-back").stamper.stamp(submitted)
    assert shown(db, submitted).signature_level == "B-LT"


@pytest.fixture
def fallen_back(
    open_shop: Open, submitted: UUID, unruly: Unruly, db: Database, store: Documents, pki: Pki
) -> Callable[[Level], tuple[Shop, bytes]]:
    """Stamp the job while all authorities are down; they are back afterwards."""

    def fallen_back(level: Level) -> tuple[Shop, bytes]:
        shop = open_shop(level, "fall-back")
        shop.sealer.timestamper.fetch(b"to know who answers")
        unruly.misbehaves["/pki/tsa"] = down
        shop.stamper.stamp(submitted)
        unruly.misbehaves.clear()
        job = shown(db, submitted)
        assert (job.state, job.signature_level) == ("stamped", "B-B")
        content = stored(store, job)
        assert level_of(pki, content) == "B-B"
        return shop, content

    return fallen_back


FallenBack = Callable[[Level], tuple[Shop, bytes]]


@pytest.mark.parametrize("level", [Level.B_T, Level.B_LT])
def test_a_file_that_had_to_do_without_gets_its_timestamp(
    level: Level,
    fallen_back: FallenBack,
    submitted: UUID,
    db: Database,
    store: Documents,
    pki: Pki,
    client: FlaskClient,
    account: Account,
) -> None:
    shop, before = fallen_back(level)
    earlier = shown(db, submitted)
    assert shop.upgrader.upgrade_due() == 1
    job = shown(db, submitted)
    after = stored(store, job)
    assert (job.state, job.signature_level) == ("stamped", level)
    assert level_of(pki, after) == level
    assert len(after) == len(before)
    assert job.earlier_sha256 == earlier.result_sha256
    assert shop.upgrader.upgrade_due() == 0

    facts = client.get(f"/v1/jobs/{submitted}", headers=account.live).json["stamped"]
    assert facts["level"] == level
    assert facts["sha256"] == hashlib.sha256(after).hexdigest()
    assert facts["earlier_sha256"] == hashlib.sha256(before).hexdigest()
    public = client.get(f"/v1/serials/{job.serial}").json
    assert public["earlier_document_sha256"] == facts["earlier_sha256"]
    page = client.get(f"/v/{job.serial}").text
    assert facts["sha256"] in page
    assert facts["earlier_sha256"] in page
    document = client.get(f"/v1/jobs/{submitted}/document", headers=account.live)
    assert document.data == after
    assert events_of(db, submitted) == ["job.accepted", "job.stamped", "job.upgraded"]
    assert_clean(db)


def test_while_authorities_stay_down_files_are_left_and_come_due_again(
    fallen_back: FallenBack, submitted: UUID, db: Database, unruly: Unruly
) -> None:
    shop, _ = fallen_back(Level.B_T)
    unruly.misbehaves["/pki/tsa"] = down
    assert shop.upgrader.upgrade_due() == 0
    assert upgrade_is_due(db, submitted) is False
    make_due(db, submitted)
    unruly.misbehaves.clear()
    assert shop.upgrader.upgrade_due() == 1


def test_evidence_that_ended_before_the_timestamp_came_makes_no_long_term_level(
    fallen_back: FallenBack, submitted: UUID, db: Database, store: Documents, pki: Pki
) -> None:
    shop, _ = fallen_back(Level.B_LT)
    with db.transaction() as connection:
        connection.execute(
            text("update jobs set evidence_until = now() - interval '1 hour' where id = :id"),
            {"id": submitted},
        )
    assert shop.upgrader.upgrade_due() == 1
    assert shown(db, submitted).signature_level == "B-T"


def test_a_timestamp_of_an_authority_without_evidence_makes_no_long_term_level(
    fallen_back: FallenBack,
    submitted: UUID,
    db: Database,
    store: Documents,
    pki: Pki,
    unruly: Unruly,
) -> None:
    shop, _ = fallen_back(Level.B_LT)
    unruly.misbehaves["/pki/tsa"] = lambda request: Response(
        pki.answer(request.get_data(), "tsa2"), mimetype="application/timestamp-reply"
    )
    assert shop.upgrader.upgrade_due() == 1
    job = shown(db, submitted)
    assert job.signature_level == "B-T"
    assert stored(store, job)


class Died(BaseException):
    """The process ends here."""


class DiesAfterStoring:
    """An object store whose user dies right after a put."""

    def __init__(self, store: Documents) -> None:
        self._store = store

    def put(self, key: str, content: bytes) -> None:
        self._store.put(key, content)
        raise Died

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_a_death_between_storing_and_committing_loses_nothing(
    fallen_back: FallenBack, submitted: UUID, db: Database, store: Documents, pki: Pki
) -> None:
    shop, before = fallen_back(Level.B_T)
    dying = Upgrader(
        database=db,
        documents=DiesAfterStoring(store),  # type: ignore[arg-type]
        timestamper=shop.sealer.timestamper,
        tell=shop.told.extend,
    )
    with pytest.raises(Died):
        dying.upgrade_due()
    job = shown(db, submitted)
    assert stored(store, job) == before
    assert job.earlier_sha256 is None
    make_due(db, submitted)
    assert shop.upgrader.upgrade_due() == 1
    assert level_of(pki, stored(store, shown(db, submitted))) == "B-T"
    assert_clean(db)


def test_of_two_who_upgrade_the_same_file_one_wins(
    fallen_back: FallenBack, submitted: UUID, db: Database, store: Documents, pki: Pki
) -> None:
    shop, before = fallen_back(Level.B_T)
    with db.transaction() as connection:
        (slow,) = upgrades.take_due(connection, limit=10)
    make_due(db, submitted)
    assert shop.upgrader.upgrade_due() == 1
    won = shown(db, submitted)
    late = documents.upgraded_key(submitted, slow.attempt)
    with db.transaction() as connection:
        lost = upgrades.upgraded(connection, slow, key=late, sha256=b"x" * 32, level=Level.B_T)
    assert lost is None
    assert shown(db, submitted) == won
    assert stored(store, won) != before
    assert events_of(db, submitted).count("job.upgraded") == 1


def test_who_comes_second_throws_its_file_away(
    fallen_back: FallenBack,
    submitted: UUID,
    db: Database,
    store: Documents,
    pki: Pki,
    unruly: Unruly,
) -> None:
    shop, _ = fallen_back(Level.B_T)
    kept: list[str] = []

    class Watched(DiesAfterStoring):
        def put(self, key: str, content: bytes) -> None:
            self._store.put(key, content)
            kept.append(key)
            if len(kept) == 1:
                # While the first still holds its file, another is quicker.
                make_due(db, submitted)
                assert shop.upgrader.upgrade_due() == 1

    slow = Upgrader(
        database=db,
        documents=Watched(store),  # type: ignore[arg-type]
        timestamper=shop.sealer.timestamper,
        tell=shop.told.extend,
    )
    assert slow.upgrade_due() == 0
    with pytest.raises(documents.MissingDocumentError):
        store.get(kept[0])
    assert level_of(pki, stored(store, shown(db, submitted))) == "B-T"


@pytest.mark.parametrize("spoil", ["missing", "damaged", "no room"])
def test_a_file_that_cannot_be_upgraded_is_left_for_good(
    spoil: str,
    fallen_back: FallenBack,
    open_shop: Open,
    submitted: UUID,
    db: Database,
    store: Documents,
) -> None:
    shop, before = fallen_back(Level.B_T)
    key = shown(db, submitted).result_key
    assert key is not None
    if spoil == "missing":
        store.delete(key)
    elif spoil == "damaged":
        store.put(key, before[:-10])
    else:
        narrow = before.replace(b"/ByteRange[0 ", b"/ByteRange[9 ")
        store.put(key, narrow)
        with db.transaction() as connection:
            connection.execute(
                text("update jobs set result_sha256 = :sha256 where id = :id"),
                {"id": submitted, "sha256": hashlib.sha256(narrow).digest()},
            )
    assert shop.upgrader.upgrade_due() == 0
    assert upgrade_is_due(db, submitted) is None
    assert shown(db, submitted).signature_level == "B-B"


def test_a_file_that_cannot_be_read_keeps_no_other_from_its_turn(
    fallen_back: FallenBack,
    submitted: UUID,
    account: Account,
    db: Database,
    worker_settings: WorkerSettings,
) -> None:
    shop, _ = fallen_back(Level.B_T)
    unreadable = accept(db, new_job(account))
    claimed = claim(db, unreadable)
    assert claimed is not None
    assert finish(db, claimed)
    key = documents.result_key(unreadable, 1)
    (worker_settings.data_dir / "objects" / key).mkdir(parents=True)
    with db.transaction() as connection:
        connection.execute(
            text("update jobs set result_key = :key, upgrade_at = to_timestamp(0) where id = :id"),
            {"key": key, "id": unreadable},
        )
    assert shop.upgrader.upgrade_due() == 1
    assert shown(db, submitted).signature_level == "B-T"
    assert upgrade_is_due(db, unreadable) is False


def test_a_reader_who_asked_just_before_the_upgrade_gets_the_new_file(
    fallen_back: FallenBack,
    submitted: UUID,
    db: Database,
    store: Documents,
    client: FlaskClient,
    account: Account,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop, _ = fallen_back(Level.B_T)
    get = Documents.get

    def get_after_the_upgrade(self: Documents, key: str) -> bytes:
        monkeypatch.setattr(Documents, "get", get)
        assert shop.upgrader.upgrade_due() == 1
        return self.get(key)

    monkeypatch.setattr(Documents, "get", get_after_the_upgrade)
    answer = client.get(f"/v1/jobs/{submitted}/document", headers=account.live)
    assert answer.status_code == 200
    assert answer.data == stored(store, shown(db, submitted))
