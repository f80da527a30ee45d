"""Real CRMs and directories for tests: fetched once into the cache, started on ports of their own, ended by who asked."""
