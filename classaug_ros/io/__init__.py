"""Files: written whole, YAML, array archives, what the package ships, and an orderly Ctrl-C."""
