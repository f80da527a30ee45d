"""Every benchmark, one after the other: `python -m tests.bench`."""

from tests.bench import inbound
from tests.bench.asterisk import __main__ as asterisk
from tests.bench.desktop import __main__ as desktop

if __name__ == "__main__":
    inbound.main([])
    asterisk.main([])
    desktop.main([])
