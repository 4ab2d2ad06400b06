"""An S3 server (moto's) as a process of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from deploy.servers import free_port
from tests.stack import eventually, run, stop

# What our clients of S3 find in their environment; moto takes any key.
VARIABLES = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
}
BUCKET = "stampede"
URL = f"s3://{BUCKET}/documents"


@contextmanager
def bucket(folder: Path) -> Iterator[str]:
    """Run a server with an empty bucket; yields its address."""
    port, log = free_port(), folder / "s3.log"
    address = f"http://127.0.0.1:{port}"
    process = run(["moto.server", "-H", "127.0.0.1", "-p", str(port)], {}, log)

    def made() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.put(f"{address}/{BUCKET}", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    try:
        eventually(made, seconds=60)
        yield address
    finally:
        stop(process)
