"""`stampede …`: the command line. Every command says in one sentence what went wrong, if it did.

machine.py       up, demo               run.py        run, probe
                                        accounts.py   partner, key
jobs.py          job                    quotas.py     quota
stamps.py        keys, design           checks.py     verify
serials.py       serials                vouchers.py   voucher
audits.py        audit                gates.py      gate
receipts.py      receipt
simulate.py      simulate
surroundings.py  what every command stands on
"""

import os
from pathlib import Path

import click

from deploy import roles
from deploy.cli import (
    accounts,
    audits,
    checks,
    gates,
    jobs,
    machine,
    quotas,
    receipts,
    run,
    serials,
    stamps,
    vouchers,
)
from deploy.cli.simulate import simulate


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Data folder.  [default: $STAMPEDE_DATA_DIR, else ./var]",
)
def main(data: Path | None) -> None:
    """Stampede: stamps and signs PDF documents, also in the last hour.

    \b
    Examples:
      stampede up                                          run everything on this machine
      stampede demo                                        see one letter being stamped
      stampede partner create "Portal A"
      stampede key issue --partner "Portal A" --mode test
      stampede quota topup --partner "Portal A" --amount 500 --reference invoice-17
      stampede verify stamped.pdf
      stampede verify --qr stamped.pdf
      stampede gate close partner --until +30m --reason "the store is full"
      stampede receipt verify receipt.jws --before 2024-09-10T23:59:00+07:00
      stampede design check stamp.pdf --output stamp.png
    """  # noqa: D301 - click takes the character, not its name
    roles.read_secrets()
    if data is not None:
        os.environ["STAMPEDE_DATA_DIR"] = str(data)


for command in (
    machine.up,
    machine.demo,
    run.run,
    run.probe,
    accounts.partner,
    accounts.key,
    quotas.quota,
    vouchers.voucher,
    jobs.job,
    audits.audit_command,
    gates.gate,
    checks.verify,
    receipts.receipt,
    stamps.keys_command,
    stamps.design,
    serials.serials,
    simulate,
):
    main.add_command(command)
