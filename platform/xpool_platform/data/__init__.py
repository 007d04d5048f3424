"""From annotations and video files to batches of frames."""
