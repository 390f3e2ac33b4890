"""The `outcry` command: one file per group of commands.

    outcry wallet new
    outcry order place XOM-USD buy 5 1.05
    outcry status --json

`cli.main` puts the groups together and turns faults into sentences and exit codes: 0 done,
1 refused, 2 wrong use, 3 the network is not there. Nothing heavy is imported before a command
runs that needs it, so `outcry --help` answers at once.
"""
