"""Real Asterisks and real SIP phones for the tests and the demo; stands beside the product, not installed."""
