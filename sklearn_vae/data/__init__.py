"""The table: its schema, the kinds of its columns, and the encoder between X and the model."""
