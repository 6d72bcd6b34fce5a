"""The datastore on the disk: where everything is, how it is read, and how a partition is replaced."""
