"""Real CRMs and directories for tests: fetched once into the cache, on own ports, ended by who began them."""
