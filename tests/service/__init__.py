"""Our parts against real servers: PostgreSQL, Valkey, Celery workers, granian."""
