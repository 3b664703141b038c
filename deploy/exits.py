"""The exit codes of every command, and the line that documents them in each help."""

DONE = 0
FAILED = 1
WRONG_USAGE = 2
FOUND_WRONG = 3

EPILOG = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 looked and found something wrong."
EPILOG_READING = "Exit codes: 0 done, 1 failed (no server answers, nothing by that name), 2 wrong usage."
EPILOG_ORDER = (
    "Exit codes: 0 found, 1 failed (no server answers, nothing known of it), 2 wrong usage, "
    "3 found, and something is wrong with it (a flag, or a held notification)."
)
