"""Stamping without a key: the job waits, and goes on with the next valid key."""

import hashlib
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from common import documents
from common.codes import CodeSigner
from common.database import Database
from common.documents import Documents
from common.jobs import State
from common.pace import Pace
from common.settings import WorkerSettings
from tests.chains import issue, pem, rsa_key
from tests.service.test_job_states import AtOnce, accept, assert_clean, balance, new_job, shown
from tests.stack import Account
from workers.checking import check
from workers.keyring import Keyring
from workers.sealer import Sealer
from workers.stamping import AttemptEndedError, Stamper


def nobody(_deliveries: list[UUID]) -> None:
    """The account has no webhooks."""


def stamper(settings: WorkerSettings, db: Database, store: Documents, pace: Pace) -> Stamper:
    return Stamper(
        settings=settings,
        database=db,
        documents=store,
        pace=pace,
        keys=Keyring(settings),
        sealer=Sealer.from_settings(settings),
        codes=CodeSigner.from_pem(
            settings.code_key_file.read_bytes(), public_url=settings.public_url
        ),
        design=None,
        tell=nobody,
        random=AtOnce(),
    )


def test_without_a_valid_key_a_job_waits_and_costs_nothing_more(
    worker_settings: WorkerSettings,
    db: Database,
    store: Documents,
    lane_pace: Pace,
    account: Account,
    letter: bytes,
    tmp_path: Path,
) -> None:
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    settings = worker_settings.model_copy(
        update={"signing_key_file": key, "signing_chain_file": chain}
    )
    job = replace(
        new_job(account),
        document_bytes=len(letter),
        document_sha256=hashlib.sha256(letter).digest(),
    )
    store.put(documents.original_key(job.id), letter)
    accept(db, job)

    with pytest.raises(AttemptEndedError, match=r"NoValidKeyError: .*cannot read .*key\.pem"):
        stamper(settings, db, store, lane_pace).stamp(job.id)
    waiting = shown(db, job.id)
    assert (waiting.state, waiting.attempt) == (State.QUEUED, 1)
    assert [each["kind"] for each in waiting.setbacks] == ["passing"]
    assert balance(db, account) == (99, 1, 0)

    issued = issue(rsa_key().public_key())
    key.write_bytes(pem(rsa_key()))
    chain.write_bytes(issued.chain_pem)
    stamper(settings, db, store, lane_pace).stamp(job.id)
    done = shown(db, job.id)
    assert done.state is State.STAMPED
    assert balance(db, account) == (99, 0, 1)
    stamped = store.get(documents.result_key(job.id, done.attempt))
    assert check(stamped, trust_roots_pem=issued.root_pem).good
    assert_clean(db)
