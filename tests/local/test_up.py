"""`stampede up`: starts, serves, ends clean, and says in one sentence what is in the way."""

import json
import os
import pwd
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from deploy.firststart import read_demo, read_variables
from deploy.processes import descendants
from deploy.servers import ROOT, UNPRIVILEGED, free_port
from tests.authorities import Pki
from tests.local.conftest import Start, gone, processes_of, stampede
from workers.checking import check


def test_a_copy_starts_serves_is_operated_and_ends_clean(start: Start, tmp_path: Path) -> None:
    """One long story, because a start takes seconds: the first run, the commands, a restart."""
    running = start().wait_ready()
    said = running.said()
    for what in (
        "PostgreSQL",
        "Valkey",
        "web",
        "stamp",
        "courier",
        "upkeep",
        "beat",
        "flower",
        "curl",
    ):
        assert what in said
    assert httpx.get(f"{running.url}/readyz").status_code == 200

    demo = stampede(running.data, "demo", "--json", "--output", str(tmp_path / "stamped.pdf"))
    assert demo.returncode == 0, demo.stderr
    facts = "intact: True, trusted: True, level: B-B, over the whole file: True"
    assert facts in demo.stderr
    outcome = json.loads(demo.stdout.splitlines()[-1])
    assert outcome["state"] == "stamped"
    assert outcome["signature"] == {"intact": True, "trusted": True, "level": "B-B"}
    assert "/V/T" in outcome["qr"]

    private_keys_are_kept_from_the_front_end(running.process.pid)
    flower_sees_the_job(running.data, said, outcome["job"])
    commands_work(running.data, tmp_path / "stamped.pdf", outcome["job"])

    keys = read_demo(running.data)
    assert keys is not None
    assert keys.voucher in said
    voucher = {"Authorization": f"Bearer {keys.voucher}"}
    assert httpx.get(f"{running.url}/v1/quota", headers=voucher).json()["available"] == 100
    second = start(data=running.data)
    assert second.process.wait(30) == 1
    assert "another copy is running" in second.said()

    assert running.end() == 0
    assert "nothing is left running" in running.said()
    assert processes_of(running.data) == []

    again = start(data=running.data).wait_ready()
    assert read_demo(running.data) == keys
    shown = stampede(again.data, "job", "show", outcome["job"])
    assert "stamped" in shown.stdout
    again.end(signal.SIGTERM)
    assert gone(running.data)


def flower_sees_the_job(data: Path, said: str, job: str) -> None:
    address = next(
        word
        for line in said.splitlines()
        if "Flower  " in line
        for word in line.split()
        if "http" in word
    )
    user, _, password = read_variables(data / "stampede.env")["FLOWER_BASIC_AUTH"].partition(":")
    assert httpx.get(f"{address}/api/tasks").status_code == 401
    with httpx.Client(base_url=address, auth=(user, password)) as client:
        task = client.get(f"/api/task/info/{job}").json()
        assert (task["name"], task["state"]) == ("stampede.stamp", "SUCCESS")
        workers = {
            row["hostname"].partition("@")[0]
            for row in client.get("/workers?json=1").json()["data"]
        }
        assert workers == {"stamp", "courier", "check", "upkeep"}
        lanes = {row["name"] for row in client.get("/api/queues/length").json()["active_queues"]}
        assert {"stamp.applicant", "stamp.partner.0", "stamp.bulk", "webhook"} <= lanes


def private_keys_are_kept_from_the_front_end(supervisor: int) -> None:
    seen = set()
    for pid in descendants(supervisor):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if b"web.app:create_app" in command:
            seen.add("web")
            assert b"STAMPEDE_CODE_PUBLIC_KEYS_FILE=" in environment
            assert b"STAMPEDE_CODE_KEY_FILE=" not in environment
            assert b"STAMPEDE_SIGNING_KEY_FILE=" not in environment
        elif b"stamp@" in command:
            seen.add("stamp")
            assert b"STAMPEDE_CODE_KEY_FILE=" in environment
    assert seen == {"web", "stamp"}


def commands_work(data: Path, stamped: Path, job: str) -> None:
    verified = stampede(data, "verify", "--json", str(stamped))
    assert verified.returncode == 0
    (signature,) = json.loads(verified.stdout)["signatures"]
    assert (signature["intact"], signature["trusted"], signature["whole_file"]) == (True,) * 3
    assert (signature["level"], signature["serial"][0]) == ("B-B", "T")

    code = stampede(data, "verify", "--qr", str(stamped), "--json")
    assert code.returncode == 0, code.stderr
    (read,) = json.loads(code.stdout)["codes"]
    assert (read["genuine"], read["matches_document"]) == (True, True)
    assert read["serial"] == signature["serial"]

    changed = stamped.with_name("changed.pdf")
    changed.write_bytes(stamped.read_bytes().replace(b"/MediaBox[0 0 595", b"/MediaBox[0 0 596", 1))
    refused = stampede(data, "verify", str(changed))
    assert refused.returncode == 1
    assert "NOT good" in refused.stdout
    noise = stamped.with_name("noise.pdf")
    noise.write_bytes(b"not a PDF at all")
    assert stampede(data, "verify", str(noise)).stderr.startswith("Error: ")

    made = stampede(data, "partner", "create", "Portal A")
    assert made.returncode == 0
    issued = stampede(data, "key", "issue", "--partner", "Portal A", "--mode", "live")
    key_id, secret = issued.stdout.split()
    assert secret.startswith("sk_live_")
    for _ in range(2):
        topped_up = stampede(
            data, "quota", "topup", "--partner", "Portal A", "--amount", "5", "--reference", "r1"
        )
        assert "available 5" in topped_up.stdout
    other_amount = stampede(
        data, "quota", "topup", "--partner", "Portal A", "--amount", "6", "--reference", "r1"
    )
    assert other_amount.returncode == 1
    url = read_variables(data / "stampede.env")["STAMPEDE_PUBLIC_URL"]
    headers = {"Authorization": f"Bearer {secret}"}
    assert httpx.get(f"{url}/v1/quota", headers=headers).json()["available"] == 5
    with stamped.open("rb") as file:
        checked = httpx.post(f"{url}/v1/verifications", files={"document": file}, headers=headers)
    assert (checked.json()["verdict"], checked.json()["known"]) == ("specimen", True)
    assert stampede(data, "key", "revoke", key_id).returncode == 0
    assert httpx.get(f"{url}/v1/quota", headers=headers).status_code == 401
    unknown = stampede(data, "key", "issue", "--partner", "Nobody", "--mode", "test")
    assert unknown.returncode == 1
    assert "no partner 'Nobody'" in unknown.stderr

    shown = json.loads(stampede(data, "job", "show", "--json", job).stdout)
    assert (shown["id"], shown["state"]) == (job, "stamped")
    assert shown["serials"] == [shown["serial"]]
    assert shown["placements"] == [shown["placement"]]
    audited = stampede(data, "audit", "--json")
    assert audited.returncode == 0
    found = json.loads(audited.stdout)
    assert (found["jobs"], found["violations"]) == (1, [])
    files = stampede(data, "audit", "--json", "--documents", "--verify")
    assert files.returncode == 0, files.stderr
    assert json.loads(files.stdout)["documents"] == {"jobs": 1, "files": 1}


def test_two_copies_run_beside_each_other(start: Start, tmp_path: Path) -> None:
    first, second = start(data=tmp_path / "one"), start(data=tmp_path / "two")
    for running in (first.wait_ready(), second.wait_ready()):
        done = stampede(running.data, "demo", "--output", str(running.data / "out.pdf"))
        assert done.returncode == 0, done.stderr
    first.end()
    assert httpx.get(f"{second.url}/readyz").status_code == 200


def test_a_supervisor_that_is_killed_leaves_nothing_and_the_next_start_works(start: Start) -> None:
    running = start().wait_ready()
    children = descendants(running.process.pid)
    assert len(children) >= 7
    running.process.kill()
    running.process.wait()
    assert gone(running.data, seconds=30), processes_of(running.data)
    start(data=running.data).wait_ready()


@pytest.mark.parametrize("which", ["port", "flower_port"])
def test_a_port_in_use_is_said_in_one_sentence(start: Start, which: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        running = start(**{which: taken.getsockname()[1]})
        assert running.process.wait(30) == 1
        assert f"port {taken.getsockname()[1]} for" in running.said()
        assert "is in use" in running.said()
        assert "Traceback" not in running.said()
    assert processes_of(running.data) == []


def test_a_folder_that_cannot_be_written_is_said_in_one_sentence(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    done = stampede(blocked / "var", "up", "--port", str(free_port()))
    assert done.returncode == 1
    assert "cannot write into" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_signature_level_without_what_it_takes_is_said_in_one_sentence(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAMPEDE_SIGNATURE_LEVEL", "B-T")
    running = start()
    assert running.process.wait(60) == 1
    assert "STAMPEDE_SIGNATURE_LEVEL=B-T needs STAMPEDE_TIMESTAMP_URLS" in running.said()
    assert "Traceback" not in running.said()
    assert gone(running.data)


def test_a_copy_signs_at_the_level_that_it_is_told(
    start: Start, monkeypatch: pytest.MonkeyPatch, pki: Pki, tmp_path: Path
) -> None:
    monkeypatch.setenv("STAMPEDE_SIGNATURE_LEVEL", "B-LT")
    monkeypatch.setenv("STAMPEDE_TIMESTAMP_URLS", pki.authority())
    monkeypatch.setenv("STAMPEDE_TIMESTAMP_ROOTS_FILE", str(pki.file("roots.pem", pki.root_pem)))
    running, stamped = start().wait_ready(), tmp_path / "stamped.pdf"
    demo = stampede(running.data, "demo", "--json", "--output", str(stamped))
    assert demo.returncode == 0, demo.stderr
    job = json.loads(demo.stdout.splitlines()[-1])["job"]
    shown = json.loads(stampede(running.data, "job", "show", "--json", job).stdout)
    assert shown["signature_level"] == "B-LT"
    specimen = (running.data / "keys" / "specimen" / "root.crt.pem").read_bytes()
    checked = check(stamped.read_bytes(), trust_roots_pem=specimen + pki.root_pem)
    assert (checked.good, checked.signatures[0].level) == (True, "B-LT")
    running.end()


def test_the_demo_without_a_copy_says_what_to_do(tmp_path: Path) -> None:
    done = stampede(tmp_path, "demo")
    assert done.returncode == 1
    assert "make up" in done.stderr


def test_a_command_without_settings_says_which_are_missing(tmp_path: Path) -> None:
    done = stampede(tmp_path, "audit")
    assert done.returncode == 1
    assert "STAMPEDE_LINK_KEY" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [[], ["up"], ["demo"], ["verify"], ["quota", "topup"]])
def test_help_helps(tmp_path: Path, command: list[str]) -> None:
    done = stampede(tmp_path, *command, "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout


def test_an_unprivileged_user_can_run_a_copy_too(tmp_path: Path) -> None:
    """As root the test becomes another user; as another user it is the tests above."""
    if os.geteuid() != 0:
        assert Path("/proc/self").owner() != "root"
        return
    user = pwd.getpwnam(UNPRIVILEGED)
    data = Path("/var/tmp") / f"stampede-test-{os.getpid()}"
    data.mkdir()
    os.chown(data, user.pw_uid, user.pw_gid)
    log = tmp_path / "up.log"
    try:
        with log.open("wb") as output:
            up = subprocess.Popen(
                [
                    *(
                        sys.executable,
                        str(ROOT / "deploy" / "child.py"),
                        "--as",
                        UNPRIVILEGED,
                        "--",
                    ),
                    *(sys.executable, "-m", "deploy.cli", "--data", str(data / "var"), "up"),
                    *("--port", str(free_port()), "--flower-port", str(free_port())),
                ],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            for _ in range(600):
                if "Try it:" in log.read_text() or up.poll() is not None:
                    break
                try:
                    up.wait(0.1)
                except subprocess.TimeoutExpired:
                    continue
            assert "Try it:" in log.read_text(), log.read_text()
            assert Path(f"/proc/{up.pid}").owner() == UNPRIVILEGED
        finally:
            up.send_signal(signal.SIGINT)
            up.wait(60)
        assert "nothing is left running" in log.read_text()
    finally:
        subprocess.run(["rm", "-rf", str(data)], check=True)
