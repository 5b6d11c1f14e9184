"""The command ``diff3r``; every module here with an ``add_parser`` function is a subcommand."""
