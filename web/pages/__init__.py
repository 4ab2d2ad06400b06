"""Pages for people: rendered on the server, Indonesian first, working without JavaScript."""
