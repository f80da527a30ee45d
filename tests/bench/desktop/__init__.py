"""The event stream under thousands of desktops: what one costs, how fast a card is there, and coming back."""
