"""Where data comes from outside the datastore: one module per kind of source."""
