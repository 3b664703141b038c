"""Exit codes of all commands, and the lines that explain them at the end of each help text."""

DONE = 0
FAILED = 1
WRONG_USAGE = 2
FOUND_WRONG = 3
STOPPED_ITSELF = 4

EPILOG = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 checked and found a problem."
EPILOG_PROCESS = (
    "Exit codes: 0 stopped by SIGTERM or Ctrl-C, 1 could not start, or failed, 2 wrong usage, "
    "4 stopped itself: restart it."
)
EPILOG_READING = "Exit codes: 0 done, 1 failed (no answer from the server, or no such thing), 2 wrong usage."
EPILOG_ORDER = (
    "Exit codes: 0 found, 1 failed (no answer from the server, or no such order), 2 wrong usage, "
    "3 found with a flag or a held notification."
)
