"""A real API server for the suites that hold a fake to it."""

from tests.component.conftest import admin, assets, api_server

__all__ = ["admin", "assets", "api_server"]
