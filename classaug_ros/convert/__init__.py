"""Model files from elsewhere: export, model cards, int8."""
