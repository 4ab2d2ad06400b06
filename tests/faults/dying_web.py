"""`web.app`, made to die: `granian --factory tests.faults.dying_web:create_app`."""

from flask import Flask

from common import jobs, lanes
from common.documents import Documents
from tests.faults.steps import WebStep, after, after_commit_of, reach, watch_commits
from web.app import create_app as make

after(Documents, "put", reach(WebStep.KEPT))
after_commit_of(jobs, "accept", WebStep.ACCEPTED)
after(jobs, "accept", reach(WebStep.ACCEPTING))
after(lanes, "publish_stamp", reach(WebStep.PUBLISHED))
watch_commits()


def create_app() -> Flask:
    """Return the front end."""
    return make()
