"""One job in several places, compared: what it makes is kept apart, and nothing is published."""
