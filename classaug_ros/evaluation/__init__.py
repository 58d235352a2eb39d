"""What rules are worth: on data sets, on recordings, on the running node."""
