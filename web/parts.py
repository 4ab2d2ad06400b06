"""What the requests of one process share, made once in `create_app`."""

from dataclasses import dataclass

from flask import current_app

from common.allowances import Allowances
from common.codes import PublishedKeys
from common.database import Database
from common.demand import Demand
from common.documents import Documents
from common.gatekeeping import Gatekeeper
from common.known_callers import KnownCallers
from common.lanes import LanesApp
from common.links import PlaceLinks, StatusLinks
from common.pace import Pace
from common.rates import Rates
from common.receipts import ReceiptSigner
from common.replies import Asker
from common.room.board import Mirror
from common.serials import Supply
from common.settings import WebSettings
from common.snapshots import Snapshots
from web.polling import Polling
from web.publishing import Publisher

_KEY = "stampede"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The front end's parts."""

    settings: WebSettings
    database: Database
    documents: Documents
    pace: Pace
    demand: Demand
    receipts: ReceiptSigner
    codes: PublishedKeys
    links: StatusLinks
    celery: LanesApp
    publisher: Publisher
    supply: Supply
    asker: Asker
    rates: Rates
    known: KnownCallers
    snapshots: Snapshots
    polling: Polling
    gatekeeper: Gatekeeper
    room: Mirror
    place_links: PlaceLinks
    allowances: Allowances

    def install(self) -> None:
        """Give these parts to the current app."""
        current_app.extensions[_KEY] = self


def parts() -> Parts:
    """Return the parts of the app that serves this request."""
    installed: Parts = current_app.extensions[_KEY]
    return installed
