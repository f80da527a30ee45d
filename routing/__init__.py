"""Decides who should take a call: facts in, a decision with its reasons out.

Pure: it opens nothing, waits for nothing and reads no clock, so that the server, `cti explain` and a replay
of last month all decide with the same code.
"""
