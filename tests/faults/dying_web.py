"""`web.app`, made to die: `granian --factory tests.faults.dying_web:create_app`."""

from flask import Flask

from common import jobs, lanes
from common.documents import Documents
from common.jobs import acceptance
from tests.faults.steps import WebStep, after, reach
from web.app import create_app as make

after(Documents, "put", reach(WebStep.KEPT))
# The database is about to be told, in the one statement that is the whole transaction.
after(acceptance, "_parameters", reach(WebStep.ACCEPTING))
after(jobs, "accept_alone", reach(WebStep.ACCEPTED))
after(lanes, "publish_stamps", reach(WebStep.PUBLISHED))


def create_app() -> Flask:
    """Return the front end."""
    return make()
