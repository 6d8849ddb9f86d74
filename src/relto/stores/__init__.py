"""Adapters of the store port: `SqliteStore` for a node, `MemoryStore` for tests and simulator."""

from relto.stores.memory import Fault, MemoryStore
from relto.stores.sqlite import SqliteStore

__all__ = ["Fault", "MemoryStore", "SqliteStore"]
