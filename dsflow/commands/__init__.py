"""The commands: one module per verb family, each a thin layer of options over one core call."""
