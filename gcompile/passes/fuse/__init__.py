"""Passes that group nodes into regions: what runs as one kernel."""
