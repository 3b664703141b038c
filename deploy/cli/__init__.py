"""The `alipay-notify` command line: one module per command or group of commands.

Start with `main`, which assembles the commands, then `options` and `terminal`, which all commands share.
`admin` is the client of the admin API, and `launch` starts the commands that run until a signal.
"""
