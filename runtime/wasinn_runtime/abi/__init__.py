"""Layouts that host and generated code share. A leaf: imports only the specification's data."""
