"""Logs that other tools wrote, read into runs. Every format has a reader of its own; none needs the tool or torch."""
