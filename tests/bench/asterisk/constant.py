"""A web server that says `dial` to everybody, at once: what a dialplan's `CURL()` asks.

python -m tests.bench.asterisk.constant PORT
"""

import socket
import sys
from contextlib import suppress

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndial"


def main(port: int) -> None:
    with socket.create_server(("127.0.0.1", port), backlog=1024) as listener:
        while True:
            client, _ = listener.accept()
            # One after the other: an answer takes less than a tenth of a millisecond.
            with client, suppress(OSError):
                client.settimeout(1.0)
                if client.recv(65536):
                    client.sendall(_ANSWER)


if __name__ == "__main__":
    main(int(sys.argv[1]))
