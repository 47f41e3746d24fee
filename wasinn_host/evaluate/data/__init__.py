"""Rows of data, read as a stream: `open_data` finds the reader by the name's ending.

A reader gives each row as a mapping from column names to values, and its place for messages. No
reader keeps rows: a data set larger than memory works.
"""

from wasinn_host.evaluate.data.errors import DataError
from wasinn_host.evaluate.data.source import Data, find_data, open_data

__all__ = ["Data", "DataError", "find_data", "open_data"]
