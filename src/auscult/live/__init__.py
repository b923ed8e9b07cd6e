"""Runs still going: follow their stores, show them in a browser by HTTP and server-sent events. Never imports torch."""
