"""panoramisk's FastAGI server and AMI manager, each doing what ours does. Runs where nothing of ours is installed.

with_panoramisk.py agi PORT | ami PORT WANTED NAME…
"""

import asyncio
import json
import sys
import time

from panoramisk import Manager, fast_agi


def agi(loop, port):
    async def handler(request):
        caller = (await request.send_command("GET VARIABLE CALLERID(num)"))["result"][1]
        await request.send_command('SET VARIABLE CTI_TARGET "PJSIP/anna"')
        await request.send_command(f'SET VARIABLE CTI_REASON "asked by {caller}"')
        await request.send_command('SET VARIABLE CTI_ACTION "dial"')

    application = fast_agi.Application(loop=loop)
    application.add_route("route", handler)
    loop.run_until_complete(asyncio.start_server(application.handler, "127.0.0.1", port, backlog=1024))
    loop.run_forever()


def ami(loop, port, expected, wanted):
    seen = 0
    began = 0.0

    def on_event(manager, event):
        nonlocal seen, began
        name = event["Event"]
        if name == "FullyBooted" or (wanted and name not in wanted):
            return
        began = began or time.process_time()
        event.get("Channel"), event.get("Uniqueid"), event.get("CallerIDNum")
        seen += 1
        if seen == expected:
            print(json.dumps({"at": time.monotonic(), "cpu": time.process_time() - began}), flush=True)
            loop.stop()

    manager = Manager(loop=loop, host="127.0.0.1", port=port, username="bench", secret="not looked at")
    # One callback that looks at the name: a pattern for each name costs panoramisk a regular expression each.
    manager.register_event("*", on_event)
    manager.connect()
    loop.run_forever()


if __name__ == "__main__":
    chosen = asyncio.new_event_loop()
    asyncio.set_event_loop(chosen)
    what, number, *names = sys.argv[1:]
    if what == "agi":
        agi(chosen, int(number))
    else:
        ami(chosen, int(number), int(names[0]), frozenset(names[1:]))
