"""The `kaito` command. Nothing in the package imports this."""
