"""Developers' tools: nothing here is deployed."""
