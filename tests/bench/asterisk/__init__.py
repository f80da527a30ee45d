"""Our Asterisk side beside other libraries', and what asking us adds to a call's delay on a real Asterisk."""
