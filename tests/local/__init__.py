"""`stampede up` and the other commands, as the processes that a person would run."""
