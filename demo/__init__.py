"""A bare machine's street: procedural scenes with ground truth, and two small models trained on them."""
