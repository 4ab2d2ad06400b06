"""The object store on a local folder."""

from pathlib import Path

import pytest

from common import documents
from common.documents import Documents, MissingDocumentError
from common.identifiers import new_id


def test_what_was_put_is_got_replaced_and_deleted(tmp_path: Path) -> None:
    store = Documents((tmp_path / "a folder").as_uri())
    job_id = new_id()
    original, result = documents.original_key(job_id), documents.result_key(job_id, 1)
    store.put(original, b"one")
    store.put(result, b"two")
    store.put(original, b"three")
    assert (store.get(original), store.get(result)) == (b"three", b"two")
    store.delete(original)
    store.delete(original)
    with pytest.raises(MissingDocumentError):
        store.get(original)
    assert store.get(result) == b"two"
    assert store.answers()


def test_a_second_process_finds_what_the_first_stored(tmp_path: Path) -> None:
    key = documents.original_key(new_id())
    Documents(tmp_path.as_uri()).put(key, b"one")
    assert Documents(tmp_path.as_uri()).get(key) == b"one"


def test_attempts_never_write_to_the_same_place() -> None:
    job_id = new_id()
    assert documents.result_key(job_id, 1) != documents.result_key(job_id, 2)
