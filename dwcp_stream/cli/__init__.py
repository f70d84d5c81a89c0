"""The commands: one file per command group, each exporting one click command named `command`.

A command reads options, calls the library and prints; whatever could be tested without a terminal belongs
elsewhere. Heavy packages are imported when a command runs, so that `--help` answers at once.
"""
