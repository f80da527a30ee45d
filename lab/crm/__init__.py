"""Real CRMs and directories for tests: fetched once into the cache, several at once, each with data of its own."""
