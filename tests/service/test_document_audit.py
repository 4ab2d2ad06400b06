"""`stampede audit --documents`: each receipt and each file is what the database says of it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text

from common import documents, jwks, pace, partners
from common.codes import CodeSigner
from common.database import Database
from common.documents import Documents
from common.partners import Mode
from common.receipts import ReceiptChecker
from common.settings import WebSettings, WorkerSettings
from deploy import document_audit
from deploy.document_audit import APART, RECEIPT, SIGNED, STAMPED, WAITING, DocumentAudit
from tests.databases import own_database
from tests.stack import ROOT
from web.app import create_app
from workers.keyring import Keyring
from workers.sealer import Sealer
from workers.stamping import Stamper


@dataclass
class Shop:
    """A database and a store with two stamped jobs and one that waits."""

    database: Database
    url: str
    store: Documents
    folder: Path
    first: UUID
    second: UUID
    waiting: UUID

    def sql(self, statement: str, **values: object) -> None:
        with self.database.transaction() as connection:
            connection.execute(text("set local session_replication_role = replica"))
            assert connection.execute(text(statement), values).rowcount

    def result_key(self, job_id: UUID) -> str:
        return documents.result_key(job_id, 1)


@pytest.fixture
def shop(
    web_settings: WebSettings, worker_settings: WorkerSettings, letter: bytes, tmp_path: Path
) -> Iterator[Shop]:
    with own_database(web_settings.database_url) as url:
        own: dict[str, Any] = {
            "database_url": url,
            "object_store_url": (tmp_path / "objects").as_uri(),
        }
        opened = Database(url, pool_size=4)
        with opened.transaction() as connection:
            partner = partners.create(connection, name="A")
            key = partners.issue_key(
                connection, partner_id=partner.id, mode=Mode.TEST, label="tests"
            )
        client = create_app(web_settings.model_copy(update=own)).test_client()
        jobs = []
        for stamps in (2, 1, 1):
            fields = {
                "stamps": json.dumps([{"page": 1, "x": 90 * n, "y": 20} for n in range(stamps)])
            }
            answer = client.post(
                "/v1/jobs",
                data=letter,
                query_string=fields,
                headers={
                    "Authorization": f"Bearer {key.secret}",
                    "Content-Type": "application/pdf",
                },
            )
            assert answer.status_code == 202, answer.text
            jobs.append(UUID(answer.json["id"]))
        settings = worker_settings.model_copy(update=own)
        store = documents.connect(settings)
        stamper = Stamper(
            settings=settings,
            database=opened,
            documents=store,
            pace=pace.connect(settings),
            keys=Keyring(settings),
            sealer=Sealer.from_settings(settings),
            codes=CodeSigner.from_pem(
                settings.code_key_file.read_bytes(), public_url=settings.public_url
            ),
            design=None,
            tell=lambda _: None,
        )
        for job_id in jobs[:2]:
            stamper.stamp(job_id)
        yield Shop(opened, url, store, tmp_path / "objects", *jobs)
        opened.close()


@pytest.fixture
def looks(
    shop: Shop, web_settings: WebSettings, root_certificate: bytes
) -> Callable[..., DocumentAudit]:
    def make(**parts: Any) -> DocumentAudit:
        key = jwks.private_key(web_settings.receipt_key_file.read_bytes()).public_key()
        given: dict[str, Any] = {
            "database": shop.database,
            "documents": shop.store,
            "receipts": ReceiptChecker([key]),
            "trust_roots_pem": root_certificate,
            "parallel": 2,
        }
        return DocumentAudit(**given | parts)

    return make


def test_what_is_as_it_should_be_is_clean(looks: Callable[..., DocumentAudit]) -> None:
    progress, violations = looks().run()
    assert violations == []
    assert (progress.jobs, progress.looked_at, progress.files) == (3, 3, 2)


def lose_the_file(shop: Shop) -> UUID:
    shop.store.delete(shop.result_key(shop.first))
    return shop.first


def change_a_byte(shop: Shop) -> UUID:
    key = shop.result_key(shop.first)
    shop.store.put(key, shop.store.get(key)[:-1] + b" ")
    return shop.first


def record_another_length(shop: Shop) -> UUID:
    shop.sql("update jobs set result_bytes = result_bytes + 1 where id = :id", id=shop.first)
    return shop.first


def lose_the_document(shop: Shop) -> UUID:
    shop.store.delete(documents.original_key(shop.waiting))
    return shop.waiting


def replace_the_document(shop: Shop) -> UUID:
    shop.store.put(documents.original_key(shop.waiting), b"%PDF-another")
    return shop.waiting


def swap_receipts(shop: Shop) -> UUID:
    shop.sql(
        "update jobs set receipt = (select receipt from jobs where id = :other) where id = :id",
        id=shop.first,
        other=shop.second,
    )
    return shop.first


def cut_a_receipt(shop: Shop) -> UUID:
    shop.sql("update jobs set receipt = left(receipt, -9) where id = :id", id=shop.first)
    return shop.first


def another_time_of_arrival(shop: Shop) -> UUID:
    shop.sql(
        "update jobs set accepted_at = accepted_at - interval '1 second' where id = :id",
        id=shop.first,
    )
    return shop.first


def another_serial(shop: Shop) -> UUID:
    shop.sql(
        "update serials set serial = 'T000000000000000000000' where job_id = :id and position = 2",
        id=shop.first,
    )
    return shop.first


def the_unsigned_letter(shop: Shop) -> UUID:
    original = shop.store.get(documents.original_key(shop.first))
    shop.store.put(shop.result_key(shop.first), original)
    shop.sql(
        "update jobs set result_bytes = document_bytes, result_sha256 = document_sha256"
        " where id = :id",
        id=shop.first,
    )
    return shop.first


def share_a_place(shop: Shop) -> UUID:
    shop.sql(
        "update jobs set result_key = (select result_key from jobs where id = :other) where id = :id",
        id=shop.first,
        other=shop.second,
    )
    return shop.first


DAMAGES: dict[str, tuple[Callable[[Shop], UUID], ...]] = {
    RECEIPT: (swap_receipts, cut_a_receipt, another_time_of_arrival),
    WAITING: (lose_the_document, replace_the_document),
    STAMPED: (lose_the_file, change_a_byte, record_another_length),
    SIGNED: (another_serial, the_unsigned_letter),
    APART: (share_a_place,),
}


def test_every_rule_has_a_damage_that_breaks_it() -> None:
    assert set(DAMAGES) == set(document_audit.RULES)


@pytest.mark.parametrize(
    ("rule", "damage"),
    [(rule, damage) for rule, several in DAMAGES.items() for damage in several],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_a_rule_speaks_when_it_is_broken(
    looks: Callable[..., DocumentAudit], shop: Shop, rule: str, damage: Callable[[Shop], UUID]
) -> None:
    offender = damage(shop)
    _, violations = looks().run()
    assert str(offender) in {each for v in violations if v.rule == rule for each in v.ids}
    if rule is not APART:
        assert [v.rule for v in violations] == [rule]


def test_a_receipt_of_another_key_is_not_ours(looks: Callable[..., DocumentAudit]) -> None:
    stranger = ReceiptChecker([Ed25519PrivateKey.generate().public_key()])
    _, (violation,) = looks(receipts=stranger).run()
    assert (violation.rule, violation.count) == (RECEIPT, 3)


class Busy(Documents):
    """A store in which the first file read has just been moved, as when it gets its timestamp."""

    def __init__(self, shop: Shop) -> None:
        super().__init__(shop.folder.as_uri())
        self.shop, self.moved = shop, False

    def get(self, key: str) -> bytes:
        if not self.moved and key == self.shop.result_key(self.shop.first):
            self.moved = True
            newer = documents.upgraded_key(self.shop.first, 1)
            self.put(newer, super().get(key))
            self.shop.sql(
                "update jobs set result_key = :k where id = :id", k=newer, id=self.shop.first
            )
            self.delete(key)
        return super().get(key)


def test_a_job_that_changes_meanwhile_is_looked_at_again(
    looks: Callable[..., DocumentAudit], shop: Shop
) -> None:
    busy = Busy(shop)
    _, violations = looks(documents=busy).run()
    assert busy.moved
    assert violations == []


def test_it_goes_on_where_it_ended_and_takes_samples(
    looks: Callable[..., DocumentAudit], shop: Shop
) -> None:
    lose_the_file(shop)
    progress, violations = looks().run(after=shop.first)
    assert (progress.looked_at, progress.last, violations) == (2, shop.waiting, [])
    progress, violations = looks().run(sample=2, after=shop.first)
    assert (progress.looked_at, violations) == (2, [])
    progress, (violation,) = looks().run(sample=100)
    assert (progress.looked_at, violation.ids) == (3, [str(shop.first)])


def test_pages_follow_each_other_without_a_gap(
    looks: Callable[..., DocumentAudit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document_audit, "PAGE", 2)
    pages: list[int] = []
    progress, _ = looks().run(tell=lambda progress: pages.append(progress.looked_at))
    assert pages == [2, 3]
    assert progress.looked_at == 3


def stampede(shop: Shop, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", "audit", *arguments],
        cwd=ROOT,
        env=os.environ
        | {
            "STAMPEDE_DATABASE_URL": shop.url,
            "STAMPEDE_OBJECT_STORE_URL": shop.folder.as_uri(),
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_ends_with_1_and_names_who_breaks_a_rule(shop: Shop) -> None:
    clean = stampede(shop, "--documents", "--verify", "--json")
    assert clean.returncode == 0, clean.stderr
    facts = json.loads(clean.stdout)
    assert (facts["jobs"], facts["violations"]) == (3, [])
    assert facts["documents"] == {"jobs": 3, "files": 2}

    offender = lose_the_file(shop)
    shop.sql("delete from events where type = 'job.accepted'")
    broken = stampede(shop, "--documents", "--json", "--ids", "2")
    assert broken.returncode == 1
    told, lost = json.loads(broken.stdout)["violations"]
    assert told["rule"] == "every job was told as accepted once"
    assert (told["count"], told["ids"]) == (3, [str(shop.first), str(shop.second)])
    assert lost == {"rule": STAMPED, "ids": [str(offender)], "count": 1}

    people = stampede(shop, "--ids", "1")
    assert people.returncode == 1
    assert f"VIOLATED  {told['rule']}: {shop.first} and 2 more" in people.stdout
    assert "may run in production" in stampede(shop, "--help").stdout
    misused = stampede(shop, "--sample", "3")
    assert misused.returncode == 2
    assert "belong to --documents" in misused.stderr


def test_a_store_that_cannot_be_read_is_no_violation(shop: Shop) -> None:
    broken = shop.folder / shop.result_key(shop.first)
    broken.unlink()
    broken.mkdir()
    done = stampede(shop, "--documents", "--json")
    assert done.returncode == 1
    assert "the documents cannot be read now" in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
