"""Real CRMs and directories for tests: fetched once into the cache, on ports of their own, ended with the test."""
