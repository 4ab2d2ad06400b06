"""The worker as it is, whose processes leave after a quiet time of two seconds instead of thirty."""

from common import scaling

scaling.QUIET_SECONDS = 2.0

from workers.app import app  # noqa: E402, F401
