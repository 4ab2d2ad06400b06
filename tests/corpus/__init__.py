"""Real documents of other people's making, each with the outcome that it must have."""
