"""The command ``wasinn``: parsing, talking to people, exit statuses. No work is done here.

What the subcommands do lives in the packages they call; ``main`` is where the process enters.
"""
