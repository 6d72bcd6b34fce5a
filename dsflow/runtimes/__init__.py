"""Where tasks run: one module per runtime, each behind the same Protocol."""
