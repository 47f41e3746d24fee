"""Backend plugins that come with the project: each one file (or folder) and one entry point.

They import the plugin interface (``wasinn_host.nn.plugin``) and their own library, nothing else.
"""
