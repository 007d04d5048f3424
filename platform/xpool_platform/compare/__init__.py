"""From runs that were recorded to what differs in them, and whether by more than chance."""
