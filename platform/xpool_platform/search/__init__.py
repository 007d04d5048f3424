"""Search: an index of videos, sentences against it, and the service with its page."""
