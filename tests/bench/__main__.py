"""Every benchmark, one after the other: `python -m tests.bench`."""

from tests.bench import inbound

if __name__ == "__main__":
    inbound.main()
