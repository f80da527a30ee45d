"""What each command of `cti` does, one module a group. Which commands and options there are is `cti.cli`'s."""


class CommandFailed(Exception):
    """What was asked for could not be done; the text says why, for who typed the command."""

    code = 1


class WrongUse(CommandFailed):
    """The command line asks for something that makes no sense."""

    code = 2


class WrongConfiguration(WrongUse):
    """The configuration cannot be used; the text has a line for each problem, with its place."""
