"""The object store on a local folder."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

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
    assert store.answers(room=1024 * 1024)


def test_a_second_process_finds_what_the_first_stored(tmp_path: Path) -> None:
    key = documents.original_key(new_id())
    Documents(tmp_path.as_uri()).put(key, b"one")
    assert Documents(tmp_path.as_uri()).get(key) == b"one"


def test_attempts_never_write_to_the_same_place() -> None:
    job_id = new_id()
    assert documents.result_key(job_id, 1) != documents.result_key(job_id, 2)


def test_chunks_become_one_object(tmp_path: Path) -> None:
    store = Documents(tmp_path.as_uri())
    key = documents.result_key(new_id(), 1)
    store.put(key, (b"one ", b"", b"two" * 3_000_000))
    assert store.get(key) == b"one " + b"two" * 3_000_000


class Bucket(BaseHTTPRequestHandler):
    """Takes what an S3 client sends, and remembers it."""

    received: ClassVar[list[tuple[str, str, bytes]]] = []

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append((self.command, self.path, body))
        self.send_response(200)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_PUT  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_a_large_object_is_one_acknowledged_put_on_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    Bucket.received.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    try:
        Documents("s3://bucket/prefix").put("ab/file.pdf", (b"x" * 12_000_000, b"the revision"))
    finally:
        server.shutdown()
        server.server_close()
    assert Bucket.received == [
        ("PUT", "/bucket/prefix/ab/file.pdf", b"x" * 12_000_000 + b"the revision")
    ]
