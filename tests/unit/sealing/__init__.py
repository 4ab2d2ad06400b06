"""The engine: geometry, documents of every build, and signatures judged by others."""
