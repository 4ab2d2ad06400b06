"""`stampede …`: the command line. Every command says in one sentence what went wrong, if it did."""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from uuid import UUID

import click
from pydantic import ValidationError
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError, ProgrammingError

from common import audit, database, job_records, ledger, partners
from common.codes import PublishedKeys
from common.partners import Mode
from common.settings import Settings, WorkerSettings, data_dir_from_environment, env_file
from common.telemetry import configure_logs
from deploy import demo as demo_run
from deploy import design_check, firststart, local, qr
from deploy.demo import DemoError
from deploy.processes import CrashedError
from deploy.report import Report, look_up
from deploy.servers import ServerError
from workers.checking import UncheckableError, check
from workers.keyring import Keyring, choose, state
from workers.sealing import Design, DesignError

S = TypeVar("S", bound=Settings)
TRUSTED = Path("keys/specimen/root.crt.pem")
TRUST_VARIABLE = "STAMPEDE_TRUST_ROOTS_FILE"
as_json = click.option("--json", "json_", is_flag=True, help="Print one JSON object at the end.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Data folder.  [default: $STAMPEDE_DATA_DIR, else ./var]",
)
def main(data: Path | None) -> None:
    r"""Stampede: stamps and signs PDF documents, also in the last hour.

    \b
    Examples:
      stampede up                                          run everything on this machine
      stampede demo                                        see one letter being stamped
      stampede partner create "Portal A"
      stampede key issue --partner "Portal A" --mode test
      stampede quota topup --partner "Portal A" --amount 500 --reference invoice-17
      stampede verify stamped.pdf
      stampede verify --qr stamped.pdf
      stampede design check stamp.pdf --output stamp.png
    """
    if data is not None:
        os.environ["STAMPEDE_DATA_DIR"] = str(data)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, help="Port of the web server.")
@click.option("--flower-port", type=int, help="Port of Flower.  [default: port + 1000]")
@click.option(
    "--max-workers",
    default=max(2, os.cpu_count() or 1),
    show_default=True,
    type=click.IntRange(1),
    help="Stamp processes that autoscaling may start.",
)
def up(host: str, port: int, flower_port: int | None, max_workers: int) -> None:
    """Run everything on this machine until Ctrl-C.

    PostgreSQL and Valkey are started too, unless STAMPEDE_DATABASE_URL or STAMPEDE_BROKER_URL name
    others. All state lies in the data folder and survives a restart.
    """
    choices = local.Choices(_data(), host, port, flower_port or port + 1000, max_workers)
    try:
        local.up(choices, click.echo)
    except (local.UpError, ServerError, CrashedError) as error:
        raise click.ClickException(str(error)) from error
    except (OperationalError, ProgrammingError) as error:
        raise click.ClickException(f"the database cannot be used: {_first_line(error)}") from error
    click.echo("ended; nothing is left running")


@main.command()
@click.option("--url", help="Address of the running copy.  [default: from its settings]")
@click.option("--output", type=click.Path(path_type=Path), help="Where to save the stamped file.")
@as_json
def demo(url: str | None, output: Path | None, json_: bool) -> None:
    """Submit a sample letter to the running copy, watch it, save and verify the result."""
    keys = firststart.read_demo(_data())
    if keys is None:
        raise click.ClickException(f"no demo partner in {_data()}; start a copy with 'make up'")
    try:
        outcome = demo_run.run_demo(
            url=url or _settings().public_url,
            keys=keys,
            letter=firststart.make_letter(_data()).read_bytes(),
            output=output,
            trust_roots_pem=(_data() / TRUSTED).read_bytes(),
            code_keys=_code_keys(_data() / firststart.CODE_PUBLIC_KEYS),
            say=lambda line: click.echo(line, err=json_),
        )
    except DemoError as error:
        raise click.ClickException(str(error)) from error
    if json_:
        _print_json(outcome.as_json())
    else:
        click.echo(f"done in {outcome.seconds} s")


@main.group()
def partner() -> None:
    """Partners: who submits documents by API."""


@partner.command("create")
@click.argument("name")
def partner_create(name: str) -> None:
    """Make a partner; one of this name that exists already is left as it is."""
    with _transaction() as connection:
        made = partners.create(connection, name=name)
    click.echo(f"{made.id}  {made.name}")


@main.group()
def key() -> None:
    """API keys of partners."""


@key.command("issue")
@click.option("--partner", "name", required=True, help="The partner's name.")
@click.option("--mode", type=click.Choice([m.value for m in Mode]), required=True)
@click.option("--label", default="", help="What the key is for.")
def key_issue(name: str, mode: str, label: str) -> None:
    """Make a key. It is shown this once and kept only as a digest."""
    with _transaction() as connection:
        owner = _partner(connection, name)
        issued = partners.issue_key(
            connection, partner_id=owner.id, mode=Mode(mode), label=label or name
        )
    click.echo(f"{issued.id}  {issued.secret}")


@key.command("revoke")
@click.argument("key_id", type=click.UUID)
def key_revoke(key_id: UUID) -> None:
    """Make a key useless from now on."""
    try:
        with _transaction() as connection:
            partners.revoke_key(connection, key_id)
    except partners.UnknownKeyError as error:
        raise click.ClickException(f"there is no key {key_id}") from error
    click.echo(f"{key_id}  revoked")


@main.group()
def quota() -> None:
    """Quota of partners, counted in stamps."""


@quota.command("topup")
@click.option("--partner", "name", required=True, help="The partner's name.")
@click.option("--amount", type=click.IntRange(1, 1_000_000_000), required=True, help="Stamps.")
@click.option("--reference", required=True, help="Name of the payment; counts once.")
def quota_topup(name: str, amount: int, reference: str) -> None:
    """Add stamps to a partner's live quota; the same reference again changes nothing."""
    try:
        with _transaction() as connection:
            balance = ledger.top_up(
                connection,
                partner_id=_partner(connection, name).id,
                amount=amount,
                reference=reference,
            )
    except ledger.ReferenceReusedError as error:
        raise click.ClickException(str(error)) from error
    click.echo(", ".join(f"{what} {count}" for what, count in asdict(balance).items()))


@main.group()
def job() -> None:
    """Jobs."""


@job.command("show")
@click.argument("job_id", type=click.UUID)
@as_json
def job_show(job_id: UUID, json_: bool) -> None:
    """Show all that is known of a job."""
    with _transaction() as connection:
        found = job_records.show(connection, job_id)
    if found is None:
        raise click.ClickException(f"there is no job {job_id}")
    facts = {name: _plain(value) for name, value in asdict(found).items() if name != "receipt"}
    if json_:
        # The first stamp also by itself, as before a job could have several.
        _print_json(facts | {"serial": found.serial, "placement": found.placements[0]})
        return
    for name, value in facts.items():
        for line in value if isinstance(value, list) else [value]:
            click.echo(f"{name:<20} {line}")


@main.command()
@click.argument(
    "file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--trust",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Certificates to trust, PEM.  [default: $STAMPEDE_TRUST_ROOTS_FILE, else the data folder's"
    " SPECIMEN root]",
)
@click.option(
    "--qr",
    "code",
    metavar="WHAT",
    help="Check the QR codes of WHAT instead, offline: a stamped PDF, a picture, or a code's text.",
)
@click.option(
    "--keys",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Keys that codes are checked against, JWKS or PEM.  [default: the data folder's]",
)
@as_json
def verify(
    file: Path | None, trust: Path | None, code: str | None, keys: Path | None, json_: bool
) -> None:
    """Check every signature of FILE; ends with 1 unless all are intact and trusted.

    Needs nothing but the file and the certificates. Where a database is configured and answers, it
    also says what became of the serial numbers in the file.

    With --qr: check QR codes; ends with 1 unless all are genuine and, in a PDF, of that document.
    """
    if code is not None:
        if file is not None:
            raise click.UsageError("either FILE or --qr WHAT")
        _verify_codes(code, keys or _data() / firststart.CODE_PUBLIC_KEYS, json_=json_)
    if file is None:
        raise click.UsageError("name a FILE, or --qr WHAT")
    roots = trust or _trust_roots()
    if not roots.exists():
        raise click.ClickException(f"no certificates in {roots}; name some with --trust")
    try:
        document = file.read_bytes()
        checked = check(document, trust_roots_pem=roots.read_bytes())
    except UncheckableError as error:
        raise click.ClickException(f"{file} cannot be read as a PDF: {error}") from error
    known, not_asked = look_up(checked, document)
    report = Report(document=document, checked=checked, known=known, not_asked=not_asked)
    if json_:
        _print_json(report.as_json())
    else:
        for line in report.lines():
            click.echo(line)
    sys.exit(0 if checked.good else 1)


@main.command("keys")
@as_json
def keys_command(json_: bool) -> None:
    """List the stamping keys and say which one signs now; ends with 1 if none does."""
    settings = _load(WorkerSettings)
    # What the ring would log is printed below.
    logging.disable()
    configure_logs(settings)
    now = datetime.now(UTC)
    ring = Keyring(settings)
    found = ring.keys(now)
    ring.close()
    facts = [key.as_json(state(key, found, now), now) for key in found]
    if json_:
        _print_json({"keys": facts, "problems": ring.problems()})
    else:
        for fact in facts:
            click.echo(
                f"{fact['state']:<6} {fact['name']:<16} {fact['source']:<7} {fact['algorithm']:<13}"
                f" {fact['valid_from']} to {fact['valid_until']}  {fact['subject']}"
            )
            if fact["ends_soon"]:
                click.echo(f"       WARNING  '{fact['name']}' ends soon or has ended")
        for problem in ring.problems():
            click.echo(f"       PROBLEM  {problem}")
        if choose(found, now) is None:
            click.echo("no key signs now; jobs wait until one does")
    sys.exit(1 if choose(found, now) is None else 0)


@main.group()
def design() -> None:
    """Stamp designs of an issuer's own."""


@design.command("check")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Save a PNG of two stamps: in test mode, and in live mode with SAMPLE across it.",
)
@as_json
def design_check_command(file: Path, output: Path | None, json_: bool) -> None:
    """Say what a one-page PDF would be as a stamp (STAMPEDE_STAMP_DESIGN_FILE), or why it cannot be."""
    address = _public_url()
    try:
        loaded = Design.load(file.read_bytes())
        if output is not None:
            output.write_bytes(design_check.picture(loaded, public_url=address))
    except DesignError as error:
        raise click.ClickException(f"{file} cannot be a stamp: {error}") from error
    found = design_check.report(loaded, public_url=address)
    if json_:
        _print_json(found.as_json())
        return
    click.echo(f"size              {found.width} x {found.height} points")
    click.echo(f"places            {', '.join(found.places)}")
    click.echo(
        f"adds              {found.bytes_per_document} bytes a document,"
        f" {found.bytes_per_stamp} bytes a stamp"
    )
    click.echo(
        f"dots per module   {found.dots_per_module} at 25 mm and 150 dpi; 2 or more are read"
    )
    for remark in found.remarks:
        click.echo(f"NOTE              {remark}")


def _public_url() -> str:
    """Return the address that codes carry here, also where no copy was ever started."""
    try:
        return Settings.load().public_url
    except ValidationError:
        return str(Settings.model_fields["public_url"].default)


def _verify_codes(what: str, keys: Path, *, json_: bool) -> NoReturn:
    try:
        outcome = qr.check(what, _code_keys(keys))
    except qr.UnreadableError as error:
        raise click.ClickException(str(error)) from error
    if json_:
        _print_json(outcome.as_json())
    else:
        for found in outcome.codes:
            for name, value in asdict(found).items():
                click.echo(f"{name:<22} {value}")
            click.echo("")
        click.echo("good" if outcome.good else "NOT good")
    sys.exit(0 if outcome.good else 1)


def _code_keys(file: Path) -> PublishedKeys:
    try:
        return PublishedKeys(file.read_bytes())
    except FileNotFoundError as error:
        raise click.ClickException(f"no keys in {file}; name some with --keys") from error
    except ValueError as error:
        raise click.ClickException(f"{file} cannot be used: {error}") from error


@main.command("audit")
@as_json
def audit_command(json_: bool) -> None:
    """Check every invariant over the whole database; ends with 1 where one does not hold."""
    with _transaction() as connection:
        found = audit.audit(connection)
    if json_:
        _print_json(found.as_json())
    else:
        for violation in found.violations:
            click.echo(f"VIOLATED  {violation.rule}: {', '.join(violation.ids)}")
        click.echo(
            f"{found.jobs} jobs, {len(found.violations)} of {len(audit.RULES)} rules violated"
        )
    sys.exit(1 if found.violations else 0)


def _data() -> Path:
    return data_dir_from_environment()


def _trust_roots() -> Path:
    """Return the certificates that the settings name, or those of the first start."""
    named = os.environ.get(TRUST_VARIABLE) or firststart.read_variables(env_file()).get(
        TRUST_VARIABLE
    )
    return Path(named) if named else _data() / TRUSTED


def _settings() -> Settings:
    return _load(Settings)


def _load(kind: type[S]) -> S:
    try:
        return kind.load()
    except ValidationError as error:
        names = ", ".join(
            f"STAMPEDE_{str(e['loc'][0]).upper()}" if e["loc"] else e["msg"] for e in error.errors()
        )
        raise click.ClickException(
            f"no usable settings in {env_file()}: {names}; start a copy with 'make up', or set them"
        ) from error


@contextmanager
def _transaction() -> Iterator[Connection]:
    opened = database.connect(_settings())
    try:
        with opened.transaction() as connection:
            yield connection
    except (OperationalError, ProgrammingError) as error:
        raise click.ClickException(
            f"the database cannot be used; is the copy running? {_first_line(error)}"
        ) from error
    finally:
        opened.close()


def _partner(connection: Connection, name: str) -> partners.Partner:
    try:
        return partners.find_by_name(connection, name)
    except partners.UnknownPartnerError as error:
        raise click.ClickException(
            f"there is no partner '{name}'; make it with: stampede partner create '{name}'"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _plain(value: Any) -> Any:
    turn: Callable[[Any], Any] = bytes.hex if isinstance(value, bytes) else str
    return value if isinstance(value, dict | list | int | str | None) else turn(value)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value))


if __name__ == "__main__":
    main()
