"""What routes ask for by type: the container and the pages of their application."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from worker.bootstrap import Container
from worker.web.pages import Pages


async def _container(request: Request) -> Container:
    container: Container = request.app.state.container
    return container


async def _pages(request: Request) -> Pages:
    pages: Pages = request.app.state.pages
    return pages


# Coroutines, though they wait for nothing: FastAPI runs a plain function in another thread.
TheContainer = Annotated[Container, Depends(_container)]
ThePages = Annotated[Pages, Depends(_pages)]
