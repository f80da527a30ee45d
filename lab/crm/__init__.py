"""Real CRMs and directories for tests: fetched once into the cache, on ports of their own, ended by who began them."""
