"""Exit codes of the command line, as shells and schedulers read them."""

BAD_INPUT = 2
"""A file, a setting or an argument is wrong; the last line on stderr says which and what to do."""
INTERRUPTED = 130
"""SIGINT ended the command (128 + 2)."""
BROKEN_PIPE = 141
"""The program that read the output closed it (128 + 13)."""
TERMINATED = 143
"""SIGTERM ended the command (128 + 15); schedulers requeue such a job."""
