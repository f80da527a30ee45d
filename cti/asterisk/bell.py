"""The doorbell of a waiting call: AMI's Redirect, which makes its channel leave the music and ask.

It brings nothing along. Asterisk answers once it has marked the channel (`ast_async_goto`); that it asks is seen when
it does.
"""

from collections.abc import Callable

from twisted.internet.defer import Deferred

from cti.asterisk.ami import AmiClient

#: Where the dialplan asks once more.
CONTEXT = "cti-sent-for"


class Bell:
    """Rings at any Asterisk to which there is a connection."""

    def __init__(self, client: Callable[[str], AmiClient]) -> None:
        """`client`: the connection to the Asterisk of this name."""
        self._client = client

    def works(self, pbx: str) -> bool:
        """Whether there is a connection to that Asterisk."""
        return self._client(pbx).up

    def ring(self, key: tuple[str, str]) -> "Deferred[object]":
        """Fires once the channel (its Asterisk, its uniqueid) leaves; fails with what an AMI action may fail with."""
        pbx, uniqueid = key
        return Deferred.fromCoroutine(
            self._client(pbx).action("Redirect", Channel=uniqueid, Context=CONTEXT, Exten="s", Priority="1")
        )
