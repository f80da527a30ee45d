"""The daemon without the end of its calls: who is reserved for a call comes free as soon as it is answered.

python -m tests.bench.let_go serve -c FILE
"""

import sys

from cti.asterisk.fastagi import AgiSession
from cti.calls.inbound import Inbound
from cti.calls.route_request import RouteRequest
from cti.cli import main

_route = Inbound.route


async def route_and_let_go(self: Inbound, session: AgiSession) -> None:
    """One question, answered; nobody will tell of the end of its call."""
    await _route(self, session)
    request = RouteRequest.of(session.request)
    call = self._calls.of_channel(request.pbx, request.uniqueid)
    if call is not None and call.offer is not None:
        for agent in call.offer.agents:
            self._roster.release(agent, call.id)


if __name__ == "__main__":
    Inbound.route = route_and_let_go  # type: ignore[method-assign]
    sys.exit(main())
