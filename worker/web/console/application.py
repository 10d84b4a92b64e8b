"""The console's pages, for the web application."""

from __future__ import annotations

from typing import Final

from worker.web.console import (
    access_page,
    audit_page,
    bulk_page,
    bulk_send,
    clients_page,
    csv_export,
    grant_acts,
    grant_list,
    grant_page,
    mails_page,
    overview_page,
    webhooks_page,
)

#: In this order a path is looked for.
ROUTERS: Final = (
    overview_page.router,
    grant_list.router,
    csv_export.router,
    bulk_page.router,  # before what takes any id
    bulk_send.router,
    grant_page.router,
    grant_acts.router,
    clients_page.router,
    mails_page.router,
    webhooks_page.router,
    access_page.router,
    audit_page.router,
)
