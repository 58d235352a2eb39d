"""Images with ground truth, from data sets and from recordings."""
