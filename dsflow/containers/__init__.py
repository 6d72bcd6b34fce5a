"""Docker: the engine, the images that jobs run in, and what building them must know."""
