"""Our FastAGI server and our AMI client, each doing what the other libraries' do.

python -m tests.bench.asterisk.with_cordboard agi PORT | ami PORT WANTED NAME…
"""

import json
import random
import sys
import time
from typing import Any

from twisted.internet import epollreactor


def agi(reactor: Any, port: int) -> None:
    from cti.asterisk.fastagi import AgiSession, FastAgiFactory, listen

    async def handler(session: AgiSession) -> None:
        caller = await session.get_variable("CALLERID(num)")
        await session.set_variables(
            [("CTI_TARGET", "PJSIP/anna"), ("CTI_REASON", f"asked by {caller}"), ("CTI_ACTION", "dial")]
        )

    listen(reactor, FastAgiFactory(handler, reactor, overflow=handler), port=port)


def ami(reactor: Any, port: int, expected: int, wanted: frozenset[str] | None) -> None:
    from cti.asterisk.ami import AmiClient
    from cti.asterisk.ami_parser import Event

    seen = 0
    began = 0.0

    def on_event(event: Event) -> None:
        nonlocal seen, began
        if event.name == "FullyBooted":
            return
        began = began or time.process_time()
        event.get("Channel"), event.get("Uniqueid"), event.get("CallerIDNum")
        seen += 1
        if seen == expected:
            print(json.dumps({"at": time.monotonic(), "cpu": time.process_time() - began}), flush=True)
            reactor.stop()

    client = AmiClient(
        reactor,
        "127.0.0.1",
        port,
        "bench",
        "not looked at",
        on_event=on_event,
        wanted=wanted,
        jitter=random.random,
    )
    client.startService()


if __name__ == "__main__":
    epollreactor.install()  # type: ignore[no-untyped-call]
    from twisted.internet import reactor

    chosen: Any = reactor
    what, number, *names = sys.argv[1:]
    if what == "agi":
        agi(chosen, int(number))
    else:
        ami(chosen, int(number), int(names[0]), frozenset(names[1:]) or None)
    chosen.run()
