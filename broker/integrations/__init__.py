"""Integrations with servers: one module for each server."""
