"""Logs and files: ranked, evaluated, replayed."""
