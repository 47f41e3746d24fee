"""The subcommands of ``wasinn``, one file each, imported when they are asked for."""
