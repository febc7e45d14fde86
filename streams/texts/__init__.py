"""What people type, encoded beside the event loop."""
