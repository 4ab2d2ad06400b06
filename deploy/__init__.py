"""Puts the parts together: the command line and everything on one machine.

    cli/             `stampede …`
    local.py         `stampede up`: all parts, started in order and ended in order
    roles.py         the parts as programs, for `stampede up`, `stampede run`, containers and clusters
    servers.py, processes.py, child.py    PostgreSQL, Valkey and our own processes, as children
    firststart.py, specimen.py, sample.py what a data folder gets: keys, a demo partner, a letter
    demo.py          one letter through the running copy
    supervision.py   what ends is started again
    simulate/        a surge over the product's own policies, in simulated time
    report.py, qr.py what `stampede verify` says of a file and of codes
    design_check.py  what `stampede design check` says of a design
    document_audit.py                     whether files and receipts are what the database says
    codefile.py      the file that voucher codes are written to

May import `web`, `workers` and `common`; nothing imports `deploy`.
"""
