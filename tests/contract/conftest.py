"""A real API server for the suites that hold a fake to it."""

from tests.component.conftest import admin, api_server, assets

__all__ = ["admin", "api_server", "assets"]
