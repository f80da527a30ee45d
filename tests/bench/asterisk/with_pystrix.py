"""pystrix's FastAGI server and AMI manager, each doing what ours does. Runs where nothing of ours is installed.

with_pystrix.py agi PORT | ami PORT WANTED NAME…
"""

import json
import sys
import threading
import time

from pystrix.agi import core as commands
from pystrix.agi.fastagi import FastAGIServer
from pystrix.ami import core as actions
from pystrix.ami.ami import Manager


class Server(FastAGIServer):
    """Without the program `sysctl`, which not every machine has."""

    @staticmethod
    def get_somaxconn():
        return 1024


def agi(port):
    def handler(agi, args, kwargs, match, path):
        caller = agi.execute(commands.GetVariable("CALLERID(num)"))
        agi.execute(commands.SetVariable("CTI_TARGET", "PJSIP/anna"))
        agi.execute(commands.SetVariable("CTI_REASON", f"asked by {caller}"))
        agi.execute(commands.SetVariable("CTI_ACTION", "dial"))

    server = Server("127.0.0.1", port)
    server.register_script_handler("route", handler)
    server.serve_forever()


def ami(port, expected, wanted):
    seen = 0
    began = 0.0
    done = threading.Event()

    def on_event(event, manager):
        nonlocal seen, began
        name = event["Event"]
        if name == "FullyBooted" or (wanted and name not in wanted):
            return
        began = began or time.process_time()
        event.get("Channel"), event.get("Uniqueid"), event.get("CallerIDNum")
        seen += 1
        if seen == expected:
            print(json.dumps({"at": time.monotonic(), "cpu": time.process_time() - began}), flush=True)
            done.set()

    manager = Manager()
    manager.register_callback("", on_event)
    manager.connect("127.0.0.1", port)
    manager.send_action(actions.Login("bench", "not looked at"))
    done.wait()


if __name__ == "__main__":
    what, number, *names = sys.argv[1:]
    if what == "agi":
        agi(int(number))
    else:
        ami(int(number), int(names[0]), frozenset(names[1:]))
