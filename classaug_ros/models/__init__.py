"""What is known of a model beside its weights: its card, its classes, what an engine was built from."""
