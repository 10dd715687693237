"""What the demo runs in processes of its own. Nothing here is imported by the demo's process."""
