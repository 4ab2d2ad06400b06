"""The pages without servers: words, steps, style."""
