"""What computes: one module per engine, each behind the same Protocol."""
