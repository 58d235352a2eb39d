"""From a data set to rules, and what the rules say."""
