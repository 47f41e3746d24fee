"""Validation: which modules may run at all."""
