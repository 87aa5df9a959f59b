"""The command line: one file per command, and every line that is printed."""
