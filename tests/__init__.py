"""Tests: unit (pure), service (real servers), local (`stampede up`), browser, corpus, bench."""
