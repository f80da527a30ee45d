"""Makes `twist cti` known to Twisted; what it does is told in `cti.tap`."""

from twisted.application.service import ServiceMaker

cti = ServiceMaker(  # type: ignore[no-untyped-call]
    "Cordboard", "cti.tap", "The Cordboard CTI server for Asterisk", "cti"
)
