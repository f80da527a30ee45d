"""`cti migrate`: the store's schema brought up to date before the server needs it."""

import time
from argparse import Namespace

from cti.commands import CommandFailed
from cti.commands.configuration import configuration
from cti.store.base import StoreError
from cti.store.opening import open_for_command, schema_of


def migrate(arguments: Namespace) -> int:
    place = configuration(arguments).store.place
    try:
        before = schema_of(place)
        open_for_command(place, destinations={}, clock=time.time).close()
        after = schema_of(place)
    except StoreError as error:
        raise CommandFailed(str(error)) from error
    print(f"schema {after}" if before == after else f"schema {after}, from {before}")
    return 0
