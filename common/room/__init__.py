"""The waiting room: who waits before the gate, in order of arrival, and whose turn has come.

policy.py   how many may come in now, and how long the others wait; values in, values out
places.py   places and turns in the database, which is the record
board.py    what stands on the wall: turns and the wait, mirrored in Valkey for those who ask often
"""
