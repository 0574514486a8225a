"""The subcommands of a2mim, one module each."""
