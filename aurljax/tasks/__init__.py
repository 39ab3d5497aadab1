"""What is asked of a model for a piece that exists: fill in, accompany, vary, go on; all that is not asked for stays."""
