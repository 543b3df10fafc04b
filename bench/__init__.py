"""Every figure in README as a command."""
