"""The command line: it translates, and calls one workflow per command."""
