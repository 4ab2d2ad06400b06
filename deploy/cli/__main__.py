"""`python -m deploy.cli`, where the package is not installed."""

from deploy.cli import main

main(prog_name="stampede")
