"""The command line: parses the words of a call, checks its settings, and imports a command only when it is called."""
